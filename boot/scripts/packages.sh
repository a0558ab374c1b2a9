# Sourced by ./x: installs Debian packages that are missing, or says which.
#
# Each need is written FILE=PACKAGE: looking for the file costs nothing when all is there, and
# satisfies machines that got the program in another way.

# need_packages WHY FILE=PACKAGE...
need_packages() {
	why=$1
	shift
	missing=
	for need in "$@"; do
		[ -e "${need%%=*}" ] || missing="$missing ${need#*=}"
	done
	[ -z "$missing" ] && return
	if ! command -v apt-get >/dev/null 2>&1; then
		die "needed for $why, and this machine has no apt-get: what Debian packages as$missing"
	fi
	if [ "$(id -u)" = 0 ]; then
		as_root=
	elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
		as_root=sudo
	else
		die "needed for $why; as root, please run: apt-get install --no-install-recommends$missing"
	fi
	say "installing$missing (for $why)"
	# The package lists may be missing or old: refresh them only if the first try fails.
	# shellcheck disable=SC2086  # a list of words is meant
	apt_install $missing || {
		say "refreshing the package lists"
		$as_root apt-get -qq update >&2 || die "apt-get update failed"
		apt_install $missing || die "apt-get could not install$missing"
	}
	for need in "$@"; do
		[ -e "${need%%=*}" ] || die "${need#*=} is installed, but ${need%%=*} is not there"
	done
}

apt_install() {
	$as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
		-o Dpkg::Use-Pty=0 install "$@" </dev/null >"$root/target/apt.log" 2>&1 || {
		tail -n 5 "$root/target/apt.log" >&2
		return 1
	}
}
