#!/bin/sh
# The first process of a guest that measures what its page tables cost. Prints "PAGING load from to": time stamps,
# which on a counted machine are instructions.
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
echo always >/sys/kernel/mm/transparent_hugepage/enabled

# Processes, copies on write, fresh memory, 2 MiB pages that come and go.
storm() {
	cat /bin/busybox /bin/busybox /bin/busybox >/tmp/b
	i=0
	while [ $i -lt 12 ]; do
		v=$(head -c 60000 /tmp/b | od -An -tx1)
		for k in 1 2 3 4 5 6 7 8; do (v=$k$v; :); done
		dd if=/tmp/b bs=4M 2>/dev/null | cmp - /tmp/b
		i=$((i + 1))
	done
	rm /tmp/b
}

# 4 KiB pages of one process, far more than a TLB holds, in no order.
misses() {
	awk 'BEGIN {
		for (n = 0; n < 150000; n++) a[n] = n
		for (n = 0; n < 600000; n++) { at = (at * 69069 + 12345) % 150000; sum += a[at] }
		print sum
	}' >/dev/null
}

measure() {
	began=$(/bench/tsc)
	$1
	echo "PAGING $1 $began $(/bench/tsc)"
}
measure storm
sh /bench/work.sh build | sed 's/^WORK/PAGING/'
echo never >/sys/kernel/mm/transparent_hugepage/enabled
measure misses
while :; do sleep 1000; done
