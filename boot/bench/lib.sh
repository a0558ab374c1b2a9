# What the benchmarks' scripts share. They run in dom0, on Oxen with xm, on Xen with xl.
tool=${toolset:-xm}
[ "$tool" = xl ] && PATH=$PATH:/usr/lib/xen-4.17/bin

# config NAME MEMORY WORDS [LINE]: a configuration of our own kernel, kept at its end.
config() {
	{
		printf 'name = "%s"\ntype = "pvh"\nkernel = "/boot/test-guest"\nmemory = %s\n' "$1" "$2"
		printf 'cmdline = "%s"\non_poweroff = "preserve"\non_crash = "preserve"\n' "$3"
		printf '%s\n' "$4"
		# Never emulated: the guest counts by it.
		echo 'tsc_mode = "native"'
		# xl computes too little for tiny guests.
		if [ "$tool" = xl ]; then echo 'shadow_memory = 1'; fi
	} >"/tmp/$1.cfg"
}
create() { $tool create -q "/tmp/$1.cfg" >/dev/null; }
destroy() { $tool destroy "$1"; }
console() { echo "/var/log/xen/console/guest-$1.log"; }

# says NAME PATTERN: waits until a guest's console has such a line.
says() {
	# Seldom: dom0's own work would disturb the counts.
	tries=120
	until grep -qE "$2" "$(console "$1")" 2>/dev/null; do
		[ $tries -eq 0 ] && { echo "no $2 on the console of $1:"; cat "$(console "$1")"; return 1; }
		tries=$((tries - 1))
		sleep 1
	done
}
