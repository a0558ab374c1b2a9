# Work like that of building a kernel: many short processes, fresh memory, files written, read and removed.
# Prints the time stamps before and after: instructions, on a counted machine.
work() {
	mkdir -p /tmp/work
	i=0
	while [ $i -lt 20 ]; do
		awk 'BEGIN { for (n = 0; n < 1500; n++) print n * n, "line", n }' >/tmp/work/source
		i=$((i + 1))
	done
	i=0
	while [ $i -lt 60 ]; do
		sh -c 'sed s/line/word/ /tmp/work/source >/tmp/work/'$i'.i; sort -r /tmp/work/'$i'.i >/tmp/work/'$i'.s'
		gzip -c /tmp/work/$i.s >/tmp/work/$i.o
		cp /tmp/work/$i.o /tmp/work/$i.copy
		cat /tmp/work/$i.i | md5sum >/tmp/work/$i.sum
		i=$((i + 1))
	done
	cat /tmp/work/*.o >/tmp/work/all
	dd if=/tmp/work/all of=/tmp/work/blocks bs=4096 2>/dev/null
	rm -r /tmp/work
}
began=$(/bench/tsc)
work
echo WORK $1 $began $(/bench/tsc)
