# The counts of one guest alone, and of two that work together.
. /bench/lib.sh
config alone 64 "test=bench $1"
create alone && says alone '^(PASS|FAIL)'
cat "$(console alone)"
destroy alone

config pong 64 "test=bench-pong"
config ping 64 "test=bench-ping $1"
create pong && says pong '^READY' && create ping && says ping '^(PASS|FAIL)'
cat "$(console ping)"
destroy ping
destroy pong
