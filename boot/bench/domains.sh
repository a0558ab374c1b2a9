# Tiny guests that sleep: one to its first line, then for each argument so many of them created, listed,
# destroyed. Times are of the time stamp counter.
. /bench/lib.sh
now() { /bench/tsc; }
tiny() { config "$1" 8 "test=bench-pong"; }
# each COMMAND: with the name of each of $count guests.
each() {
	i=0
	while [ $i -lt $count ]; do
		"$1" "tiny$i" || exit 1
		i=$((i + 1))
	done
}
free() { $tool info | sed -n 's/^free_memory *: *//p'; }

# The first one fills the caches of dom0's kernel and daemons.
config warm 8 "test=hello"
create warm || exit 1
says warm '^PASS'
destroy warm

# What reading the clock takes by itself.
began=$(now)
echo "TIME clock $began $(now)"

config first 8 "test=hello"
began=$(now)
create first || exit 1
created=$(now)
until grep -q '^TEST' "$(console first)" 2>/dev/null; do :; done
echo "TIME create $began $created"
echo "TIME create-first-line $began $(now)"
destroy first

for count in "$@"; do
	each tiny
	before=$(free)
	began=$(now)
	each create
	$tool list >/tmp/list
	listed=$(now)
	[ "$(grep -c tiny /tmp/list)" = $count ] || { echo "FAIL not all of $count are listed"; exit 1; }
	after=$(free)
	middle=$(now)
	each destroy
	until ! $tool list | grep -q tiny; do :; done
	echo "TIME guests-$count $began $listed $middle $(now)"
	echo "MEMORY $count $before $after"
done
exit 0
