# An idle machine, then work in dom0, then the same in a guest with a stock kernel.
. /bench/lib.sh
case $1 in
idle | "")
	config idle 8 "test=bench-pong"
	create idle && says idle '^READY' || exit 1
	# The daemons' last words.
	sleep 20
	# The first two looks at the clock: the counter outside tells what happened between them.
	/bench/tsc
	sleep 500
	/bench/tsc
	echo "IDLE 500"
	destroy idle
	;;
esac
case $1 in
load-dom0 | "") sh /bench/work.sh dom0 ;;
esac
case $1 in
load-guest | "")
	# In this order: what is not packed must be aligned.
	cat /bench/guest.cpio /boot/guest.cpio.gz >/tmp/ramdisk
	printf 'name = "work"\ntype = "pvh"\nkernel = "/boot/vmlinuz"\nramdisk = "/tmp/ramdisk"\nmemory = 256\n' >/tmp/work.cfg
	printf 'cmdline = "console=hvc0 rdinit=/bench/init"\ntsc_mode = "native"\n' >>/tmp/work.cfg
	create work && says work '^WORK' || exit 1
	grep '^WORK' "$(console work)"
	destroy work
	;;
esac
exit 0
