# The same work in a guest with nested paging and in one without. Prints "hap PAGING load from to" lines.
. /bench/lib.sh
# In this order: what is not packed must be aligned.
cat /bench/guest.cpio /boot/guest.cpio.gz >/tmp/ramdisk
for hap in 1 0; do
	printf 'name = "paging%s"\ntype = "pvh"\nkernel = "/boot/vmlinuz"\nramdisk = "/tmp/ramdisk"\nmemory = 256\n' $hap >/tmp/paging$hap.cfg
	printf 'cmdline = "console=hvc0 rdinit=/bench/init"\ntsc_mode = "native"\nhap = %s\n' $hap >>/tmp/paging$hap.cfg
	create paging$hap && says paging$hap '^PAGING misses' || { echo FAIL; exit 1; }
	grep '^PAGING' "$(console paging$hap)" | sed "s/^/$hap /"
	destroy paging$hap
done
exit 0
