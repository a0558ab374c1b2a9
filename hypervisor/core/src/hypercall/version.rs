//! xen_version: what hypervisor this is and what it offers (xen/version.h, xen/features.h).

use guest_pv_abi as abi;
use oxen_types::{Errno, PAGE_SIZE, Result};

use super::op::operations;
use super::{Call, Privileged};

/// The major version of the ABI.
pub const MAJOR: u64 = 4;
/// The minor version of the ABI.
pub const MINOR: u64 = 17;
/// The rest of the version.
pub const EXTRA: &str = ".0-oxen";
/// The kinds of guests, in the headers' notation.
pub const CAPABILITIES: &str = "xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ";

/// The start of the address range that is ours (`XENVER_platform_parameters`).
const VIRT_START: u64 = 0xffff_8000_0000_0000;

operations! {
    /// args: cmd, argument.
    pub fn call(call) with ();
    declared OPERATIONS;
    command call.args[0] as u32;
    argument call.args[1];
    accepted {
        XENVER_VERSION: plain by anyone => version, full;
        XENVER_EXTRAVERSION: gives([u8; 16]) by anyone => extra_version, full;
        XENVER_COMPILE_INFO: gives(abi::XenCompileInfo) by anyone => compile_info, full;
        XENVER_CAPABILITIES: gives([u8; 1024]) by anyone => capabilities, full;
        XENVER_CHANGESET: gives([u8; 64]) by anyone => changeset, full;
        XENVER_PLATFORM_PARAMETERS: gives(u64) by anyone => platform_parameters, full;
        XENVER_GET_FEATURES: updates(abi::XenFeatureInfo) by anyone => get_features, full;
        XENVER_PAGESIZE: plain by anyone => page_size, full;
        XENVER_GUEST_HANDLE: gives([u8; 16]) by anyone => guest_handle, full;
        XENVER_COMMANDLINE: gives([u8; 1024]) by privileged => command_line, full;
    }
    refused {
        XENVER_BUILD_ID: NoSys;
    }
    else Err(Errno::NoSys.into());
}

fn version(_call: &Call<'_>) -> u64 {
    MAJOR << 16 | MINOR
}

fn extra_version(_call: &Call<'_>, text: &mut [u8; 16]) {
    put(text, EXTRA);
}

fn compile_info(_call: &Call<'_>, info: &mut abi::XenCompileInfo) {
    let compiler = concat!("rustc, oxen ", env!("CARGO_PKG_VERSION"));
    put(&mut info.compiler, compiler);
    put(&mut info.compile_by, "oxen");
    put(&mut info.compile_domain, "oxen");
    put(&mut info.compile_date, "unknown");
}

fn capabilities(_call: &Call<'_>, text: &mut [u8; 1024]) {
    put(text, CAPABILITIES);
}

fn changeset(_call: &Call<'_>, text: &mut [u8; 64]) {
    put(text, "oxen");
}

fn platform_parameters(_call: &Call<'_>, virt_start: &mut u64) {
    *virt_start = VIRT_START;
}

fn get_features(call: &Call<'_>, info: &mut abi::XenFeatureInfo) -> Result<()> {
    info.submap = features(info.submap_idx, call.privileged().is_ok())?;
    Ok(())
}

fn page_size(_call: &Call<'_>) -> u64 {
    PAGE_SIZE as u64
}

fn guest_handle(call: &Call<'_>, handle: &mut [u8; 16]) {
    *handle = call.domain().with_control(|control| control.handle);
}

fn command_line(call: &Call<'_>, _dom0: Privileged, text: &mut [u8; 1024]) {
    put(text, call.machine().platform.command_line());
}

/// One word of feature bits. dom0's memory is identity-mapped, guests' is not.
fn features(submap: u32, privileged: bool) -> Result<u32> {
    if submap != 0 {
        return if submap < abi::XENFEAT_NR_SUBMAPS {
            Ok(0)
        } else {
            Err(Errno::Inval)
        };
    }
    let mut bits = 1 << abi::XENFEAT_WRITABLE_PAGE_TABLES
        | 1 << abi::XENFEAT_AUTO_TRANSLATED_PHYSMAP
        | 1 << abi::XENFEAT_HVM_CALLBACK_VECTOR
        | 1 << abi::XENFEAT_HVM_SAFE_PVCLOCK
        | 1 << abi::XENFEAT_MEMORY_OP_VNODE_SUPPORTED;
    if privileged {
        bits |= 1 << abi::XENFEAT_DOM0 | 1 << abi::XENFEAT_DIRECT_MAPPED;
    } else {
        bits |= 1 << abi::XENFEAT_NOT_DIRECT_MAPPED;
    }
    Ok(bits)
}

/// Puts a text into a field of fixed size, cut if need be so that a NUL ends it.
fn put(field: &mut [u8], text: &str) {
    let len = text.len().min(field.len() - 1);
    field[..len].copy_from_slice(&text.as_bytes()[..len]);
}
