# timed.sh [micro | only=FIGURE] [guests]: what is timed, in one start of the machine. The first look at the clock is that
# of dom0's prompt.
echo "TIME boot-prompt 0 $(/bench/tsc)"
# How fast the clock is, as this hypervisor has found.
sed -n 's/^cpu MHz[^0-9]*/MHZ /p' /proc/cpuinfo
for part in "$@"; do
	case $part in
	micro) sh /bench/micro.sh timed=1 ;;
	only=*) sh /bench/micro.sh "$part" timed=1 ;;
	guests) sh /bench/domains.sh || exit 1 ;;
	esac
done
exit 0
