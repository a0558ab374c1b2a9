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
	become_root || die "needed for $why; as root, please run: apt-get install --no-install-recommends$missing"
	say "installing$missing (for $why)"
	refresh_lists
	# shellcheck disable=SC2086  # a list of words is meant
	apt_install $missing || die "apt-get could not install$missing"
	for need in "$@"; do
		[ -e "${need%%=*}" ] || die "${need#*=} is installed, but ${need%%=*} is not there"
	done
}

# Sets the prefix of commands that need root; fails where that takes a password.
become_root() {
	as_root=
	[ "$(id -u)" = 0 ] && return
	as_root=sudo
	command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null
}

# apt's package lists, unless they were refreshed within the last day: an old list names packages that
# are gone, or misses the newer ones of the security suite.
refresh_lists() {
	if [ "${1:-}" != now ] && ls /var/lib/apt/lists/*Packages* >/dev/null 2>&1 &&
		[ -n "$(find /var/lib/apt/lists -maxdepth 0 -mtime -1)" ]; then
		return
	fi
	say "refreshing apt's package lists"
	$as_root apt-get -qq update >&2 || say "apt-get update failed; going on with the lists there are"
}

apt_install() {
	$as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
		-o Dpkg::Use-Pty=0 install "$@" </dev/null >"$root/target/apt.log" 2>&1 || {
		tail -n 5 "$root/target/apt.log" >&2
		return 1
	}
}
