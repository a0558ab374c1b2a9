//! Who the hypervisor is (xen/version.h).

use super::{nr, text};
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
        let version = self.raw(nr::XEN_VERSION, &[Arg::Value(0), Arg::Value(0)])?;
        Ok(((version >> 16) as u16, version as u16))
    }

    pub fn extra_version(&self) -> Result<String> {
        self.version_text(1, 16)
    }

    pub fn compile_info(&self) -> Result<CompileInfo> {
        let bytes = self.version_bytes(2, 144)?;
        Ok(CompileInfo {
            compiler: text(&bytes[..64]),
            compiled_by: text(&bytes[64..80]),
            compile_domain: text(&bytes[80..112]),
            compile_date: text(&bytes[112..144]),
        })
    }

    /// The kinds of guest that it runs.
    pub fn capabilities(&self) -> Result<String> {
        self.version_text(3, 1024)
    }

    pub fn changeset(&self) -> Result<String> {
        self.version_text(4, 64)
    }

    /// The start of the hypervisor's addresses.
    pub fn virt_start(&self) -> Result<u64> {
        let buffer = self.buffer(8)?;
        self.raw(nr::XEN_VERSION, &[Arg::Value(5), Arg::Buffer(&buffer)])?;
        buffer.get(0)
    }

    pub fn pagesize(&self) -> Result<i64> {
        self.raw(nr::XEN_VERSION, &[Arg::Value(7), Arg::Value(0)])
    }

    /// The hypervisor's own command line.
    pub fn command_line(&self) -> Result<String> {
        self.version_text(9, 1024)
    }

    fn version_text(&self, cmd: u64, len: usize) -> Result<String> {
        self.version_bytes(cmd, len).map(|bytes| text(&bytes))
    }

    fn version_bytes(&self, cmd: u64, len: usize) -> Result<Vec<u8>> {
        let buffer = self.buffer(len)?;
        self.raw(nr::XEN_VERSION, &[Arg::Value(cmd), Arg::Buffer(&buffer)])?;
        let mut bytes = vec![0; len];
        buffer.read(0, &mut bytes)?;
        Ok(bytes)
    }
}
