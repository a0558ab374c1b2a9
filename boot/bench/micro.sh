# micro.sh [only=FIGURE] [timed=1]: the counts of one guest alone, of two that work together, and of two vcpus
# (never timed).
. /bench/lib.sh
config alone 64 "test=bench $*"
create alone && says alone '^(PASS|FAIL)'
cat "$(console alone)"
destroy alone

config pong 64 "test=bench-pong"
config ping 64 "test=bench-ping $*"
create pong && says pong '^READY' && create ping && says ping '^(PASS|FAIL)'
cat "$(console ping)"
destroy ping
destroy pong

case $1 in
only=ipi-ping-pong | "")
	config ipi 64 "test=bench-ipi" 'vcpus = 2'
	create ipi && says ipi '^(PASS|FAIL)'
	cat "$(console ipi)"
	destroy ipi
	;;
esac
