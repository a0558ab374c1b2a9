//! xen_version: what hypervisor this is and what it offers (xen/version.h, xen/features.h).

use guest_pv_abi as abi;
use oxen_types::{Errno, PAGE_SIZE};

use super::{Answer, Call, Handle};

/// We speak the ABI of this version.
pub const MAJOR: u64 = 4;
pub const MINOR: u64 = 17;
pub const EXTRA: &str = ".0-oxen";
pub const CAPABILITIES: &str = "xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ";

/// The start of the address range that is ours (`XENVER_platform_parameters`).
const VIRT_START: u64 = 0xffff_8000_0000_0000;

pub fn call(call: &mut Call<'_>) -> Answer {
    let to = call.args[1];
    match call.args[0] as u32 {
        abi::XENVER_VERSION => Ok(MAJOR << 16 | MINOR),
        abi::XENVER_EXTRAVERSION => text::<16>(call, to, EXTRA),
        abi::XENVER_COMPILE_INFO => {
            let mut info = [0; 64 + 16 + 32 + 32];
            put(
                &mut info[0..64],
                concat!("rustc, oxen ", env!("CARGO_PKG_VERSION")),
            );
            put(&mut info[64..80], "oxen");
            put(&mut info[80..112], "oxen");
            put(&mut info[112..144], "unknown");
            call.write_bytes(to, &info)?;
            Ok(0)
        }
        abi::XENVER_CAPABILITIES => text::<1024>(call, to, CAPABILITIES),
        abi::XENVER_CHANGESET => text::<64>(call, to, "oxen"),
        abi::XENVER_PLATFORM_PARAMETERS => {
            call.write(Handle::new(to), &VIRT_START)?;
            Ok(0)
        }
        abi::XENVER_GET_FEATURES => {
            let at: Handle<abi::XenFeatureInfo> = Handle::new(to);
            let mut info = call.read(at)?;
            info.submap = features(info.submap_idx, call.is_privileged())?;
            call.write(at, &info)?;
            Ok(0)
        }
        abi::XENVER_PAGESIZE => Ok(PAGE_SIZE as u64),
        abi::XENVER_GUEST_HANDLE => {
            call.write_bytes(to, &call.domain().with_control(|control| control.handle))?;
            Ok(0)
        }
        abi::XENVER_COMMANDLINE => {
            call.require_privilege()?;
            text::<1024>(call, to, call.machine().platform.command_line())
        }
        _ => Err(Errno::NoSys.into()),
    }
}

/// One word of feature bits. dom0's memory is identity-mapped, guests' is not.
fn features(submap: u32, privileged: bool) -> Result<u32, Errno> {
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

fn text<const N: usize>(call: &Call<'_>, to: u64, text: &str) -> Answer {
    let mut buffer = [0; N];
    put(&mut buffer, text);
    call.write_bytes(to, &buffer)?;
    Ok(0)
}

/// Puts a text into a field of fixed size, cut if need be so that a NUL ends it.
fn put(field: &mut [u8], text: &str) {
    let len = text.len().min(field.len() - 1);
    field[..len].copy_from_slice(&text.as_bytes()[..len]);
}
