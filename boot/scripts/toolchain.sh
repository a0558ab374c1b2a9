# Sourced by ./x: finds or makes a Rust toolchain that compiles for x86_64-unknown-none.
#
# The order of preference: the installed cargo when it can do it (tried, not asked for: rustup lists
# targets that are not there); else Debian's compiler with a private sysroot; else rustup's download.
# OXEN_TOOLCHAIN=debian or =rustup forces one. The private sysroot lies outside the work tree, one
# per compiler version, so that `cargo clean` and fresh clones do not cost a rebuild (40 s).

bare_target=x86_64-unknown-none

# Where things that outlive a checkout are kept.
cache_dir() {
	if [ -n "${OXEN_CACHE:-}" ]; then
		echo "$OXEN_CACHE"
	elif [ -n "${XDG_CACHE_HOME:-}" ]; then
		echo "$XDG_CACHE_HOME/oxen"
	elif [ -n "${HOME:-}" ] && [ -w "$HOME" ]; then
		echo "$HOME/.cache/oxen"
	else
		echo "$root/target/cache"
	fi
}

# True if the compiler named by $1 can really build for the bare target.
compiles_bare() {
	command -v "$1" >/dev/null 2>&1 || return 1
	probe=$(mktemp -d) || return 1
	echo '#![no_std]' | (cd "$root" && "$1" --target $bare_target --crate-name probe --crate-type rlib \
		--emit=metadata --out-dir "$probe" -) >/dev/null 2>&1
	status=$?
	rm -rf "$probe"
	return $status
}

# True if Debian's compiler is installed or could be.
debian_has_rust() {
	[ -f /usr/share/doc/rustc-web/copyright ] && return 0
	command -v apt-cache >/dev/null 2>&1 && apt-cache show rustc-web >/dev/null 2>&1
}

toolchain_setup() {
	case "${OXEN_TOOLCHAIN:-}" in
	debian) debian_toolchain; return ;;
	rustup) rustup_toolchain; return ;;
	'') ;;
	*) die "OXEN_TOOLCHAIN is '$OXEN_TOOLCHAIN'; it may be 'debian' or 'rustup', or unset" ;;
	esac
	if compiles_bare rustc && command -v cargo >/dev/null 2>&1; then
		return
	fi
	if debian_has_rust || ! command -v rustup >/dev/null 2>&1; then
		debian_toolchain
	else
		rustup_toolchain
	fi
}

rustup_toolchain() {
	command -v rustup >/dev/null 2>&1 || die "rustup is not installed: see https://rustup.rs, or use OXEN_TOOLCHAIN=debian"
	if ! compiles_bare rustc; then
		say "rustup adds the target $bare_target (the hypervisor is compiled for it)"
		(cd "$root" && rustup target add $bare_target >&2) || die "rustup could not add $bare_target; try OXEN_TOOLCHAIN=debian"
	fi
}

debian_toolchain() {
	need_packages "Debian's Rust compiler, and its sources for the bare target" \
		/usr/share/doc/rustc-web/copyright=rustc-web /usr/share/doc/cargo-web/copyright=cargo-web \
		/usr/share/doc/rust-web-src/copyright=rust-web-src /usr/bin/clippy-driver=rust-web-clippy \
		/usr/bin/rustfmt=rustfmt-web /usr/bin/lld=lld /usr/bin/cc=gcc /usr/include/stdlib.h=libc6-dev \
		/etc/ssl/certs/ca-certificates.crt=ca-certificates
	if ! compiler_is_new; then
		# The first one of the release; its security suite has the one that browsers need.
		become_root || die "rustc-web is older than $oldest_compiler; as root, please run: apt-get update && apt-get install $compiler_packages"
		refresh_lists now
		say "upgrading Debian's Rust compiler to $oldest_compiler or later"
		# shellcheck disable=SC2086  # a list of words is meant
		apt_install $compiler_packages && compiler_is_new ||
			die "Debian's compiler is older than $oldest_compiler: is the suite bookworm-security in apt's sources?"
	fi
	version=$(dpkg-query -W -f='${Version}' rustc-web)
	version=$(echo "$version" | tr ':~+' '...')
	toolchain="$(cache_dir)/toolchain-$version-$toolchain_format"
	if [ ! -f "$toolchain/complete" ]; then
		make_wrappers "$toolchain" || die "cannot write to $(cache_dir); set OXEN_CACHE to a directory"
		# The task runner compiles meanwhile, as the host's libraries are there already. Two runs at once: the second
		# waits, and finds it done.
		(
			flock 9
			[ -f "$toolchain/complete" ] || build_sysroot "$toolchain"
		) 9>"$toolchain.lock" &
		sysroot_job=$!
	fi
	PATH="$toolchain/bin:$PATH"
	export PATH
}

# A second sysroot, of core and alloc for size, for the embedded images: $OXEN_SMALL_CARGO compiles with it.
# Other toolchains have these libraries ready-made, and their images are larger.
small_toolchain() {
	[ -n "${toolchain:-}" ] || return 0
	small=$toolchain-small
	if [ ! -f "$small/complete" ]; then
		make_wrappers "$small" || die "cannot write to $(cache_dir); set OXEN_CACHE to a directory"
		(
			flock 9
			[ -f "$small/complete" ] || build_sysroot "$small" ,optimize_for_size 'opt-level = "z"'
		) 9>"$small.lock" || exit 1
	fi
	OXEN_SMALL_CARGO=$small/bin/cargo
	export OXEN_SMALL_CARGO
}

# Waits for what toolchain_setup has started.
toolchain_ready() {
	[ -z "${sysroot_job:-}" ] && return
	wait "$sysroot_job" || exit 1
	sysroot_job=
}

# Older ones lack what the sources use.
oldest_compiler=1.95
compiler_packages="rustc-web cargo-web rust-web-src rust-web-clippy rustfmt-web"

compiler_is_new() {
	dpkg --compare-versions "$(dpkg-query -W -f='${Version}' rustc-web)" ge "$oldest_compiler"
}

# Raise it when the layout made below changes.
toolchain_format=1

# All of it but the bare target's libraries. Harmless to what is there already.
make_wrappers() {
	dest=$1
	mkdir -p "$dest/bin" "$dest/lib/rustlib/x86_64-unknown-linux-gnu/bin" || return 1
	ln -sfn /usr/lib/rustlib/x86_64-unknown-linux-gnu/lib "$dest/lib/rustlib/x86_64-unknown-linux-gnu/lib"
	ln -sfn /usr/lib/rustlib/src "$dest/lib/rustlib/src"
	ln -sfn /usr/bin/lld "$dest/lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld"
	write_wrapper "$dest" rustc 'exec /usr/bin/rustc --sysroot "$toolchain" "$@"'
	write_wrapper "$dest" rustdoc 'exec /usr/bin/rustdoc --sysroot "$toolchain" "$@"'
	write_wrapper "$dest" rustfmt 'exec /usr/bin/rustfmt "$@"'
	write_wrapper "$dest" clippy-driver 'export SYSROOT="$toolchain"' 'exec /usr/bin/clippy-driver "$@"'
	# clippy-driver stands in for rustc and never sees our --sysroot, only $SYSROOT. The subcommands
	# are started here, lest cargo take another toolchain's from ~/.cargo/bin.
	write_wrapper "$dest" cargo 'PATH="$toolchain/bin:$PATH"' \
		'export PATH RUSTC="$toolchain/bin/rustc" RUSTDOC="$toolchain/bin/rustdoc" RUSTFMT=/usr/bin/rustfmt' \
		'export SYSROOT="$toolchain"' \
		'case "${1:-}" in' \
		'clippy) CARGO=/usr/bin/cargo exec /usr/bin/cargo-clippy "$@" ;;' \
		'fmt) CARGO=/usr/bin/cargo exec /usr/bin/cargo-fmt "$@" ;;' \
		'esac' \
		'exec /usr/bin/cargo "$@"'
}

# build_sysroot DIR [,FEATURE [PROFILE-LINE]]
build_sysroot() {
	dest=$1
	say "building core and alloc for $bare_target with Debian's compiler (once, less than a minute)"
	work=$dest.work
	rm -rf "$work" "$dest/lib/rustlib/$bare_target"
	mkdir -p "$work/src" "$dest/lib/rustlib/$bare_target/lib" || exit 1
	cat >"$work/Cargo.toml" <<-'EOF'
		[package]
		name = "sysroot"
		version = "0.0.0"
		edition = "2024"
		[workspace]
		[profile.release]
		panic = "abort"
	EOF
	echo "${3:-}" >>"$work/Cargo.toml"
	echo '#![no_std]' >"$work/src/lib.rs"
	# The unstable flags end here: what the project compiles with the result needs none.
	# Bitcode is embedded for the fat LTO of the image, frame pointers serve its backtraces.
	if ! (cd "$work" && env -u CARGO_TARGET_DIR -u CARGO_BUILD_TARGET PATH=/usr/bin:/bin RUSTC=/usr/bin/rustc \
		RUSTC_BOOTSTRAP=1 RUSTFLAGS='-Cembed-bitcode=yes -Cforce-frame-pointers=yes' \
		/usr/bin/cargo build --release --target $bare_target -Zbuild-std=core,alloc,compiler_builtins \
		-Zbuild-std-features="compiler-builtins-mem${2:-}") >"$work/log" 2>&1; then
		tail -n 30 "$work/log" >&2
		die "the sysroot did not build; the whole log is $work/log"
	fi
	for crate in core alloc compiler_builtins; do
		cp "$work/target/$bare_target/release/deps/lib$crate"-*.rlib "$dest/lib/rustlib/$bare_target/lib/" || exit 1
	done
	rm -rf "$work"
	compiles_bare "$dest/bin/rustc" || die "the new sysroot in $dest does not compile an empty crate"
	: >"$dest/complete"
}

# write_wrapper DIR NAME LINE...
write_wrapper() {
	file=$1/bin/$2
	new=$file.$$
	{
		echo '#!/bin/sh'
		echo "toolchain='$1'"
		shift 2
		printf '%s\n' "$@"
	} >"$new"
	chmod 755 "$new" && mv "$new" "$file"
}
