# io.sh NETWORK-PORT: disks and TCP, dom0's own and a guest's on the same device or link by turns, so that
# what else the host does falls on both. Prints "IO figure who value" lines: MiB or operations a second.
ROUNDS=2
SECONDS_EACH=3
port=$1
dmesg -n 1

# device WHO BUS: which device a figure is of, as who sees it.
device() {
	case $1-$2 in
	dom0-ahci) echo /dev/sda ;;
	dom0-nvme) echo /dev/nvme0n1 ;;
	dom0-virtio) echo /dev/vda ;;
	dom0-slow) echo /dev/vdb ;;
	guest-ahci) echo /dev/xvda ;;
	guest-nvme) echo /dev/xvdb ;;
	guest-virtio) echo /dev/xvdc ;;
	guest-slow) echo /dev/xvdd ;;
	esac
}

# in_guest COMMAND: runs it in the guest; what it printed, if that is one word. What is typed has not the mark.
in_guest() {
	xm console --send "echo val''ue=\"\$($1);\"\\n" --expect 'value=[^;]*;' --timeout 200 bench |
		sed -n 's/.*value=\([^;]*\);.*/\1/p'
}
# measure FIGURE WHO COMMAND
measure() {
	if [ "$2" = guest ]; then value=$(in_guest "$3"); else value=$(sh -c "$3"); fi
	case $value in
	'' | *[!0-9.]*) echo "FAIL $1 $2: $value"; exit 1 ;;
	esac
	echo "IO $1 $2 $value"
}

# disk WHO BUS FIGURE RW SIZE DEPTH FIELD: the field is of fio's terse output, version 3.
disk() {
	measure "$2-$3" $1 "fio --minimal --terse-version=3 --name=io --filename=$(device $1 $2) --rw=$4 --bs=$5 --iodepth=$6 \
		--size=256m --direct=1 --ioengine=libaio --thread --time_based --ramp_time=1 --runtime=$SECONDS_EACH | cut -d ';' -f $7"
}

# tcp WHO FIGURE OPTION: through QEMU's user network, at the receiver.
tcp() {
	measure "tcp-$2" $1 "iperf3 -c 10.0.2.2 -p $port -t $SECONDS_EACH -f K $3 | awk '/receiver/ { print \$7 }'"
}

(cd / && cpio -o -H newc </boot/tools >/boot/guest-tools.cpio 2>/dev/null && cat /boot/guest.cpio.gz >>/boot/guest-tools.cpio)
cat >/tmp/bench.cfg <<END
name = "bench"
type = "pvh"
kernel = "/boot/vmlinuz"
ramdisk = "/boot/guest-tools.cpio"
cmdline = "console=hvc0 quiet"
memory = 512
disk = ["phy:/dev/sda,xvda,w", "phy:/dev/nvme0n1,xvdb,w", "phy:/dev/vda,xvdc,w", "phy:/dev/vdb,xvdd,w"]
vif = [""]
END
for word in sda nvme0n1 vda vdb; do
	tries=60
	until [ -b /dev/$word ]; do
		[ $tries -gt 0 ] || { echo "FAIL no /dev/$word"; exit 1; }
		tries=$((tries - 1))
		sleep 1
	done
done
xm create -q /tmp/bench.cfg || { echo "FAIL the guest cannot be created"; exit 1; }
xm console --expect OXEN-GUEST-READY --timeout 300 bench >/dev/null || { echo "FAIL the guest is silent"; exit 1; }
xm console --send 'until ip addr show eth0 | grep -q inet.10; do sleep 1; done; echo add''ress\n' --expect '^address' --timeout 120 bench || exit 1

round=0
while [ $round -lt $ROUNDS ]; do
	for bus in ahci nvme virtio slow; do
		for who in dom0 guest; do
			disk $who $bus write write 1m 4 48
			disk $who $bus read read 1m 4 7
			disk $who $bus random-write randwrite 4k 32 49
			disk $who $bus random-read randread 4k 32 8
		done
	done
	for who in dom0 guest; do
		tcp $who send ''
		tcp $who receive -R
	done
	round=$((round + 1))
done
xm destroy bench
