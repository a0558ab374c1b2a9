//! Between CPUs: kicks, and functions run on others.
//!
//! `call` waits for the answers with interrupts off. So that two callers cannot wait for each
//! other, each CPU that waits (here, and for any `sync::Mutex`) answers calls meanwhile, by `poll`.
//! A called function takes no lock and is short. A CPU that does not answer within a second is
//! named in the log; after ten the caller gives up.
#![allow(unsafe_code, reason = "a function pointer through an atomic")]

use crate::apic::{self, Delivery};
use crate::cpu::cpu_id;
use crate::{smp, time, vectors};
use core::mem;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use oxen_types::{CpuId, CpuMask, MAX_CPUS};

const WARN_AFTER_NS: u64 = 1_000_000_000;
const GIVE_UP_AFTER_NS: u64 = 10_000_000_000;

/// The CPUs that did not answer a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoAnswer(pub CpuMask);

static BUSY: AtomicBool = AtomicBool::new(false);
static FUNCTION: AtomicPtr<()> = AtomicPtr::new(null_mut());
static ARGUMENT: AtomicUsize = AtomicUsize::new(0);
static NMI_SENT: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];
static PENDING: [AtomicU64; MAX_CPUS / 64] = [const { AtomicU64::new(0) }; MAX_CPUS / 64];

/// Makes `cpu` leave its guest or its halt, and look at its work.
pub fn kick(cpu: CpuId) {
    apic::send(cpu, Delivery::Fixed(vectors::KICK));
}

/// Makes `cpu` leave its guest even where no interrupt does.
pub fn nmi(cpu: CpuId) {
    if let Some(sent) = NMI_SENT.get(cpu.index()) {
        sent.store(true, Ordering::SeqCst);
        apic::send(cpu, Delivery::Nmi);
    }
}

/// Whether the NMI that this CPU takes was sent by [`nmi`]; each answer counts once.
pub(crate) fn take_nmi() -> bool {
    let sent = NMI_SENT.get(cpu_id().index());
    sent.is_some_and(|sent| sent.swap(false, Ordering::SeqCst))
}

/// Notifies `cpu` that the guest which it runs has posted interrupts: in the guest the CPU takes
/// them without an exit.
pub fn notify(cpu: CpuId) {
    apic::send(cpu, Delivery::Fixed(vectors::POSTED));
}

/// Runs `function(argument)` on the CPUs of `mask` that are up, this one included if it is in it,
/// and waits until all have.
///
/// # Errors
/// `NoAnswer` names the CPUs that have not answered after ten seconds.
pub fn call(mask: CpuMask, function: fn(usize), argument: usize) -> Result<(), NoAnswer> {
    let me = cpu_id();
    let mut others = CpuMask::EMPTY;
    smp::online()
        .iter()
        .filter(|cpu| *cpu != me && mask.contains(*cpu))
        .for_each(|c| others.add(c));
    let result = if others.is_empty() {
        Ok(())
    } else {
        call_others(others, function, argument)
    };
    if mask.contains(me) {
        function(argument);
    }
    result
}

fn call_others(others: CpuMask, function: fn(usize), argument: usize) -> Result<(), NoAnswer> {
    while BUSY
        .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
        .is_err()
    {
        poll();
        core::hint::spin_loop();
    }
    ARGUMENT.store(argument, Ordering::Relaxed);
    FUNCTION.store(function as *mut (), Ordering::Relaxed);
    for (pending, word) in PENDING.iter().zip(others.words()) {
        pending.store(word, Ordering::Release);
    }
    others
        .iter()
        .for_each(|cpu| apic::send(cpu, Delivery::Fixed(vectors::CALL)));
    let result = wait();
    BUSY.store(false, Ordering::Release);
    result
}

fn wait() -> Result<(), NoAnswer> {
    let start = time::now_ns();
    let mut warned = false;
    loop {
        let left =
            CpuMask::from_words(core::array::from_fn(|i| PENDING[i].load(Ordering::Acquire)));
        if left.is_empty() {
            return Ok(());
        }
        let waited = time::now_ns().saturating_sub(start);
        if waited > WARN_AFTER_NS && !warned {
            warned = true;
            left.iter()
                .for_each(|cpu| log::warn!("CPU{cpu} does not answer a call"));
        }
        if waited > GIVE_UP_AFTER_NS {
            PENDING
                .iter()
                .for_each(|word| word.store(0, Ordering::Release));
            return Err(NoAnswer(left));
        }
        core::hint::spin_loop();
    }
}

/// Answers a call, if there is one for this CPU. Any loop that waits for another CPU calls this.
pub fn poll() {
    let me = cpu_id().index();
    let (word, bit) = (&PENDING[me / 64], 1u64 << (me % 64));
    if word.load(Ordering::Acquire) & bit == 0 {
        return;
    }
    let function = FUNCTION.load(Ordering::Relaxed);
    let argument = ARGUMENT.load(Ordering::Relaxed);
    if !function.is_null() {
        // SAFETY: only `call_others` stores here, such a function, before it sets our bit.
        let function = unsafe { mem::transmute::<*mut (), fn(usize)>(function) };
        function(argument);
    }
    word.fetch_and(!bit, Ordering::Release);
}

/// Drops the translations of every CPU in `mask`, global ones too.
///
/// # Errors
/// `NoAnswer`, as [`call`].
pub fn flush_tlb(mask: CpuMask) -> Result<(), NoAnswer> {
    call(mask, |_| crate::cpu::regs::flush_tlb_local(), 0)
}

pub(crate) fn install_handlers() {
    crate::irq::set_handler(vectors::KICK, |_| {});
    crate::irq::set_handler(vectors::POSTED, |_| {});
    crate::irq::set_handler(vectors::CALL, |_| poll());
}
