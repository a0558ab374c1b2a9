//! HVM parameters: numbered 64-bit settings that the toolstack leaves for the guest
//! (xen/hvm/params.h).

use guest_pv_abi as abi;
use oxen_types::{Errno, Result, masked};

const COUNT: usize = 40;

/// The values of all parameters of a domain.
#[derive(Clone)]
pub(crate) struct HvmParams([u64; COUNT]);

impl Default for HvmParams {
    fn default() -> Self {
        Self([0; COUNT])
    }
}

/// The place of a parameter in the table.
///
/// # Errors
/// `Inval` if there is no such parameter.
pub(crate) fn check(index: u32) -> Result<usize> {
    let index = index as usize;
    if index >= COUNT {
        return Err(Errno::Inval);
    }
    Ok(masked(index, COUNT))
}

impl HvmParams {
    /// A parameter's value.
    ///
    /// # Errors
    /// As [`check`].
    pub(crate) fn get(&self, index: u32) -> Result<u64> {
        self.0.get(check(index)?).copied().ok_or(Errno::Inval)
    }

    /// Sets a parameter.
    ///
    /// # Errors
    /// As [`check`].
    pub(crate) fn set(&mut self, index: u32, value: u64) -> Result<()> {
        *self.0.get_mut(check(index)?).ok_or(Errno::Inval)? = value;
        Ok(())
    }
}

/// Whether an unprivileged domain may read this parameter of its own.
pub(crate) fn guest_may_read(index: u32) -> bool {
    matches!(
        index,
        abi::HVM_PARAM_CALLBACK_IRQ
            | abi::HVM_PARAM_STORE_PFN
            | abi::HVM_PARAM_STORE_EVTCHN
            | abi::HVM_PARAM_CONSOLE_PFN
            | abi::HVM_PARAM_CONSOLE_EVTCHN
            | abi::HVM_PARAM_VM86_TSS
            | abi::HVM_PARAM_ALTP2M
            | abi::HVM_PARAM_VM_GENERATION_ID_ADDR
            | abi::HVM_PARAM_X87_FIP_WIDTH
    )
}

/// Whether an unprivileged domain may write this parameter of its own.
pub(crate) fn guest_may_write(index: u32) -> bool {
    index == abi::HVM_PARAM_CALLBACK_IRQ
}
