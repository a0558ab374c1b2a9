//! Instructions that may fault, and where to go on: pairs of self-relative offsets, collected by
//! the linker. The pairs stand in no order; the list is short.
#![allow(unsafe_code, reason = "the linker's table")]

unsafe extern "C" {
    static __ex_table_start: i32;
    static __ex_table_end: i32;
}

pub(super) fn lookup(rip: u64) -> Option<u64> {
    let start = &raw const __ex_table_start;
    let end = &raw const __ex_table_end;
    let words = (end as usize - start as usize) / size_of::<i32>();
    // SAFETY: the linker script brackets the section with these symbols, aligned to 4.
    let table = unsafe { core::slice::from_raw_parts(start, words) };
    table.as_chunks::<2>().0.iter().find_map(|[fault, target]| {
        let absolute = |word: &i32| (word as *const i32 as u64).wrapping_add_signed((*word).into());
        (absolute(fault) == rip).then(|| absolute(target))
    })
}
