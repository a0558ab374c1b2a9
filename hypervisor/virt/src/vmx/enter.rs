//! One entry to the guest: what the VMCS must hold, what must be flushed, and what an exit leaves
//! to settle.
#![allow(unsafe_code, reason = "enters the guest; writes the VMCS")]

use oxen_arch::cpu::regs;
use x86_64::registers::control::Cr2;

use super::caps::{enter, pin, proc, second};
use super::exit::{Info, reason};
use super::refused::Refused;
use super::state::{self, NMI_BLOCKED};
use super::{VmxVcpu, control, event, field, insn, maps, refused, switch};
use crate::backend::Event;
use crate::phys_cpu::PhysCpu;
use crate::step::enterable_rip;
use crate::x86::{CR0_PE, CR0_PG, EFER_LMA, EFER_LME};

/// PAUSEs closer together than the gap belong to one loop; a loop longer than the window exits (in
/// cycles).
const PAUSE_GAP: u64 = 128;
const PAUSE_WINDOW: u64 = 4096 * 16;
/// The longest run on CPUs whose timer has a rate of its own, in cycles: Bochs 2.7 holds interrupts
/// of the host back while a guest runs that was entered with its own off.
const BACKSTOP: u64 = 1 << 22;
/// #DB and #AC only because a guest can make their delivery recurse without end (CVE-2015-8104,
/// CVE-2015-5307). #MC is the host's.
pub(super) const EXCEPTIONS: u64 = 1 << 1 | 1 << 17 | 1 << 18;

/// CS.L, in its access rights.
const LONG_CODE: u64 = 1 << 13;

impl VmxVcpu {
    /// The fields of the current VMCS that stay as they are.
    pub(super) fn prepare(&mut self) {
        let io_map = self.domain.io_map().raw();
        let caps = &self.caps;
        let (cr0_mask, cr4_mask) = match self.shadowed {
            Some(_) => (u64::MAX, u64::MAX),
            None => (control::cr0_mask(caps), control::cr4_mask(caps)),
        };
        let fields = [
            (field::EXIT_CONTROLS, caps.exit.into()),
            (field::IO_MAP_A, io_map),
            (field::IO_MAP_B, io_map + 4096),
            (field::MSR_MAP, maps::msr_map(&self.domain, false).raw()),
            (field::CR0_MASK, cr0_mask),
            (field::CR4_MASK, cr4_mask),
            (field::LINK, u64::MAX),
            (field::ENTRY_EVENT, 0),
            (field::ENTRY_EVENT_CODE, 0),
        ];
        // SAFETY: the maps are the domain's, which we keep alive; what exits is what the hypervisor
        // relies on.
        unsafe {
            for (field, value) in fields {
                insn::vmwrite(field, value);
            }
            for field in field::ZEROED {
                insn::vmwrite(field, 0);
            }
            if caps.proc & proc::SECONDARY != 0 {
                insn::vmwrite(field::SECONDARY_CONTROLS, caps.second.into());
            }
            if caps.has_second(second::PAUSE_LOOP) {
                insn::vmwrite(field::PLE_GAP, PAUSE_GAP);
                insn::vmwrite(field::PLE_WINDOW, PAUSE_WINDOW);
            }
            if caps.has_second(second::XSAVES) {
                insn::vmwrite(field::XSS_EXITS, 0);
            }
        }
        self.prepare_apic();
        self.prepared = true;
    }

    /// Enters once, or says why that cannot be.
    pub(super) fn enter(&mut self, cpu: &mut PhysCpu) -> Result<(), Refused> {
        self.match_entry_controls();
        self.match_rip();
        let disguise = self.disguise()?;
        self.flush_if_needed(cpu);
        self.match_apic_controls();
        self.state.set(state::TPR_THRESHOLD, self.apic.cr8());
        self.state.set(state::RSP, self.regs.rsp);
        let pending = self.pending.take();
        if let Some(pending) = pending {
            self.write_event(pending);
        }
        self.start_timer();
        self.state.write_back();
        if Cr2::read_raw() != self.cr2 {
            // SAFETY: the hypervisor looks at CR2 in its own page faults only.
            unsafe { regs::set_cr2(self.cr2) };
        }
        cpu.spec.enter(&self.spec);
        let work = cpu.spec.switch(&self.spec, self.domain.trusted);
        // SAFETY: the VMCS is ours, current (`load`) and complete; `load` wrote this CPU's host
        // state and put the guest's FPU state in; the nested root is the caller's p2m.
        let refused = unsafe { switch::enter(&mut self.regs, self.launched.into(), &work) } != 0;
        cpu.spec.leave(&self.spec);
        self.cr2 = Cr2::read_raw();
        if refused {
            self.pending = pending;
            self.undisguise(disguise);
            return Err(refused::instruction(insn::vmread(field::INSN_ERROR)));
        }
        self.launched = true;
        self.state.forget();
        self.undisguise(disguise);
        self.regs.rsp = self.state.get(state::RSP);
        self.info = Info::read();
        if self.info.reason & reason::ENTRY_FAILED != 0 {
            self.launched = false;
            self.pending = pending;
            return Err(refused::entry(self.info.reason, self.info.qualification));
        }
        Ok(())
    }

    /// Lets the entry end when the deadline comes, or, where the timer's rate is not to be trusted
    /// and none is kept by it, some time. It is set anew each time, as the timer stands still
    /// outside of the guest.
    fn start_timer(&mut self) {
        let ticks = self.caps.timer_shift.and_then(|shift| match self.deadline {
            Some(deadline) => Some(timer_ticks(deadline, regs::rdtsc(), shift)),
            None => (!self.caps.timer_steady).then_some(BACKSTOP >> shift),
        });
        let timer = u64::from(pin::PREEMPTION_TIMER);
        self.state
            .change(state::PIN_CONTROLS, timer, ticks.is_some());
        if let Some(ticks) = ticks {
            // SAFETY: ends the entry.
            unsafe { insn::vmwrite(field::PREEMPTION_TIMER, ticks) };
        }
    }

    fn flush_if_needed(&mut self, cpu: &mut PhysCpu) {
        self.flush_shadow();
        if !cpu.tags.is_current(self.tag) {
            self.tag = cpu.tags.allocate();
            if self.caps.has_second(second::VPID) {
                self.state.set(state::VPID, self.tag.number().into());
            }
            // Translations of the nested tables are shared by all VPIDs: others may have left some
            // here that a flush elsewhere did not reach.
            self.flush = true;
        }
        if cpu.tags.take_flush() {
            self.flushes.all();
            self.flush = false;
        }
        if core::mem::take(&mut self.flush) && self.caps.has_second(second::EPT) {
            let scope = if self.caps.invept_one {
                insn::Scope::One
            } else {
                insn::Scope::All
            };
            insn::invept(scope, self.state.get(state::EPTP));
        }
    }

    /// EFER.LMA follows from LME and paging, and the entry controls from that.
    pub(super) fn match_entry_controls(&mut self) {
        if self.shadowed.is_some() {
            return; // They follow from what the guest sees.
        }
        let paging = self.state.get(state::CR0) & CR0_PG != 0;
        let mut efer = self.state.get(state::EFER);
        efer = if paging && efer & EFER_LME != 0 {
            efer | EFER_LMA
        } else {
            efer & !EFER_LMA
        };
        self.state.set(state::EFER, efer);
        let long = u64::from(enter::GUEST_64);
        self.state
            .change(state::ENTRY_CONTROLS, long, efer & EFER_LMA != 0);
    }

    /// RIP as entries take it, if emulation or a record may have left another.
    pub(super) fn match_rip(&mut self) {
        let code = state::rights(1);
        if !self.state.is_dirty(state::RIP) && !self.state.is_dirty(code) {
            return;
        }
        let long = self.state.get(state::ENTRY_CONTROLS) & u64::from(enter::GUEST_64) != 0;
        let long_code = long && self.state.get(code) & LONG_CODE != 0;
        let (rip, faults) = enterable_rip(self.state.get(state::RIP), long_code);
        self.state.set(state::RIP, rip);
        if faults && self.pending.is_none() {
            self.pending = Some(Event::GP);
        }
    }

    fn write_event(&mut self, pending: Event) {
        let (mut info, code) = event::encode(pending);
        if pending == Event::Nmi {
            self.nmi_blocked = true;
            // Delivery blocks further ones; it must not find them blocked.
            self.state
                .change(state::INTERRUPTIBILITY, NMI_BLOCKED, false);
        }
        if self.state.get(state::CR0) & CR0_PE == 0 {
            // Real mode has no error codes, and entries refuse them.
            info &= !event::HAS_CODE;
        }
        // SAFETY: an event for the guest, in a valid form.
        unsafe {
            insn::vmwrite(field::ENTRY_EVENT_CODE, code.into());
            insn::vmwrite(field::ENTRY_EVENT, info.into());
        }
    }

    /// Settles an exit before anything looks at it: an event whose delivery the exit interrupted is
    /// delivered again, and NMIs that a faulting IRET let in are blocked again.
    pub(super) fn settle(&mut self) {
        self.pending = event::interrupted(self.info.vectoring, self.info.vectoring_code);
        if self.info.iret_unblocked_nmi() {
            self.state
                .change(state::INTERRUPTIBILITY, NMI_BLOCKED, true);
        }
    }
}

/// Until the deadline, rounded up: an entry that ends early would only be followed by another. What
/// its 32 bits cannot hold ends early too.
fn timer_ticks(deadline: u64, now: u64, shift: u8) -> u64 {
    let left = deadline.saturating_sub(now);
    (left.div_ceil(1 << shift)).min(u64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::timer_ticks;

    #[test]
    fn the_timer_is_rounded_up_and_has_32_bits() {
        assert_eq!(timer_ticks(1000, 1000, 5), 0);
        assert_eq!(timer_ticks(900, 1000, 5), 0);
        assert_eq!(timer_ticks(1001, 1000, 5), 1);
        assert_eq!(timer_ticks(1032, 1000, 5), 1);
        assert_eq!(timer_ticks(1033, 1000, 0), 33);
        assert_eq!(timer_ticks(u64::MAX, 0, 5), 0xffff_ffff);
    }
}
