//! The MTRR record: memory types, with PAT.

use guest_pv_abi::{HVM_SAVE_CODE_MTRR, HvmHwMtrr};

use super::{BadRecord, SavedVcpu, VcpuRecord};
use crate::backend::Reg;
use crate::policy::Mtrr;
use crate::policy::msr::pat_is_valid;

impl VcpuRecord for HvmHwMtrr {
    const CODE: u16 = HVM_SAVE_CODE_MTRR;

    fn save(state: &SavedVcpu<'_>) -> Self {
        let mtrr = &state.mtrr;
        Self {
            msr_pat_cr: state.backend.get(Reg::Pat),
            msr_mtrr_var: mtrr.record(),
            msr_mtrr_fixed: mtrr.fixed,
            msr_mtrr_cap: mtrr.cap(),
            msr_mtrr_def_type: mtrr.def_type,
        }
    }

    /// Writes each register as the guest would. A PAT of 0 leaves the vcpu's as it is.
    fn load(&self, state: &mut SavedVcpu<'_>) -> Result<(), BadRecord> {
        *state.mtrr = Mtrr::from_record(
            self.msr_mtrr_def_type,
            self.msr_mtrr_fixed,
            self.msr_mtrr_var,
            state.phys_bits,
        )
        .ok_or(BadRecord)?;
        if self.msr_pat_cr != 0 {
            if !pat_is_valid(self.msr_pat_cr) {
                return Err(BadRecord);
            }
            state.backend.set(Reg::Pat, self.msr_pat_cr);
        }
        Ok(())
    }
}
