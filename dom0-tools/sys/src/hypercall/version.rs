//! Version, build and features of the hypervisor (xen/version.h).

use guest_pv_abi as abi;

use super::{Plain, nr, text};
use crate::{Arg, Privcmd, Result};

/// `xen_compile_info`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileInfo {
    pub compiler: String,
    pub compiled_by: String,
    pub compile_domain: String,
    pub compile_date: String,
}

impl Privcmd {
    /// Major and minor version of the interface.
    pub fn version(&self) -> Result<(u16, u16)> {
        let version = self.raw(
            nr::XEN_VERSION,
            &[Arg::Value(abi::XENVER_VERSION.into()), Arg::Value(0)],
        )?;
        Ok(((version >> 16) as u16, version as u16))
    }

    pub fn extra_version(&self) -> Result<String> {
        self.version_text(abi::XENVER_EXTRAVERSION, 16)
    }

    pub fn compile_info(&self) -> Result<CompileInfo> {
        let info: abi::XenCompileInfo = self.version_item(abi::XENVER_COMPILE_INFO)?;
        Ok(CompileInfo {
            compiler: text(&info.compiler),
            compiled_by: text(&info.compile_by),
            compile_domain: text(&info.compile_domain),
            compile_date: text(&info.compile_date),
        })
    }

    /// The kinds of guest that it runs.
    pub fn capabilities(&self) -> Result<String> {
        self.version_text(abi::XENVER_CAPABILITIES, 1024)
    }

    pub fn changeset(&self) -> Result<String> {
        self.version_text(abi::XENVER_CHANGESET, 64)
    }

    /// The start of the hypervisor's addresses.
    pub fn virt_start(&self) -> Result<u64> {
        self.version_item(abi::XENVER_PLATFORM_PARAMETERS)
    }

    pub fn pagesize(&self) -> Result<i64> {
        self.raw(
            nr::XEN_VERSION,
            &[Arg::Value(abi::XENVER_PAGESIZE.into()), Arg::Value(0)],
        )
    }

    /// The hypervisor's own command line.
    pub fn command_line(&self) -> Result<String> {
        self.version_text(abi::XENVER_COMMANDLINE, 1024)
    }

    fn version_item<T: Plain>(&self, cmd: u32) -> Result<T> {
        let buffer = self.buffer(size_of::<T>())?;
        let args = [Arg::Value(cmd.into()), Arg::Buffer(&buffer)];
        self.raw(nr::XEN_VERSION, &args)?;
        buffer.get(0)
    }

    fn version_text(&self, cmd: u32, len: usize) -> Result<String> {
        let buffer = self.buffer(len)?;
        let args = [Arg::Value(cmd.into()), Arg::Buffer(&buffer)];
        self.raw(nr::XEN_VERSION, &args)?;
        let mut bytes = vec![0; len];
        buffer.read(0, &mut bytes)?;
        Ok(text(&bytes))
    }
}
