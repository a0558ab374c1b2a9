# cpus.sh [FIGURE]: round trips between two CPUs; the guests, or a guest's vcpus, have one each.
. /bench/lib.sh
# The guests know nothing of where they run.
told() { sed 's/^BENCH \([^ ]*\)/BENCH \1-cpus/' "$(console $1)"; }
case $1 in
event-ping-pong-cpus | "")
	config pong 64 "test=bench-pong" 'cpus = "0"'
	config ping 64 "test=bench-ping only=event-ping-pong" 'cpus = "1"'
	create pong && says pong '^READY' && create ping && says ping '^(PASS|FAIL)'
	told ping
	destroy ping
	destroy pong
	;;
esac
case $1 in
ipi-ping-pong-cpus | "")
	config ipi 64 "test=bench-ipi" 'vcpus = 2
cpus = ["0", "1"]'
	create ipi && says ipi '^(PASS|FAIL)'
	told ipi
	destroy ipi
	;;
esac
exit 0
