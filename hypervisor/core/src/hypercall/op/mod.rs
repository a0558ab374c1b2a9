//! Operations of hypercalls: how each is declared, and what the dispatcher does before and after
//! it.
//!
//! [`operations!`] takes the declarations of one hypercall and makes its `match`. A declaration
//! names the operation's number in the ABI crate, its argument, who may call it, the handler, and
//! how far it goes (for docs/hypercalls.md). The forms of an argument:
//!
//! | form | the handler gets | after success |
//! |---|---|---|
//! | `plain` | no argument | |
//! | `takes(T)` | `&T`, a private copy | |
//! | `updates(T)` | `&mut T`, a private copy | the copy is written back |
//! | `reports(T)` | `&mut T`, a private copy | the copy is written back, after a failure too |
//! | `gives(T)` | `&mut T`, zeroed | it is written to the caller |
//! | `each(T)` | `&mut T`, for each element | each is written back with its own status |
//! | `batch(T)` | `&mut [T]`, up to [`BATCH`] elements | likewise |
//!
//! The callers: `anyone`; `privileged`, then the handler gets a [`Privileged`]; or
//! `target(FIELD)`, then the handler gets the [`Target`] that the field names. Authority that the
//! caller alone decides is checked before the argument is copied, the rest right after it.
//!
//! domctl, sysctl and platform_op have their argument in an envelope, and are dom0's alone. There
//! the callers are `dom0`; `domain`, then the handler gets the [`Target`] that the envelope names;
//! or `other`, the same but for the caller's own domain. A further form is `whole`: the handler
//! gets the envelope itself.
//!
//! Everything here is inlined into the `match`: the machine code is that of a match written by
//! hand.

mod authority;
mod call;
#[cfg(test)]
pub(crate) mod declared;
mod envelope;
mod guest;
mod lists;

use bytemuck::Pod;
use oxen_types::{Errno, Result};

use super::{Answer, Stop};
pub use authority::{Privileged, Target};
pub use call::Call;
pub(crate) use envelope::{Request, enveloped};
pub use guest::List;
pub(crate) use lists::{BATCH, batches, each};

/// A handler's result.
pub(crate) trait Reply {
    /// The call's answer: 0 where the handler has no value to return.
    fn answer(self) -> Answer;
}

impl Reply for () {
    fn answer(self) -> Answer {
        Ok(0)
    }
}

impl Reply for u64 {
    fn answer(self) -> Answer {
        Ok(self)
    }
}

impl Reply for Answer {
    fn answer(self) -> Answer {
        self
    }
}

impl Reply for Result<(), Stop> {
    fn answer(self) -> Answer {
        self.map(|()| 0)
    }
}

impl Reply for Result<()> {
    fn answer(self) -> Answer {
        Ok(self.map(|()| 0)?)
    }
}

impl Reply for Result<u64> {
    fn answer(self) -> Answer {
        Ok(self?)
    }
}

/// Authority that a declaration may name.
pub(crate) trait Authority: Sized {
    /// The part of the argument that it depends on.
    type Names;

    /// The check that needs no argument.
    fn before(call: &Call<'_>) -> Result<()>;

    fn of(call: &Call<'_>, names: Self::Names) -> Result<Self>;
}

/// Any domain may call: the operation acts on the caller's own domain.
pub(crate) struct Anyone;

impl Authority for Anyone {
    type Names = ();

    fn before(_call: &Call<'_>) -> Result<()> {
        Ok(())
    }

    fn of(_call: &Call<'_>, (): ()) -> Result<Self> {
        Ok(Self)
    }
}

impl Authority for Privileged {
    type Names = ();

    fn before(call: &Call<'_>) -> Result<()> {
        call.privileged().map(drop)
    }

    fn of(call: &Call<'_>, (): ()) -> Result<Self> {
        call.privileged()
    }
}

impl Authority for Target {
    type Names = u16;

    fn before(_call: &Call<'_>) -> Result<()> {
        Ok(())
    }

    fn of(call: &Call<'_>, id: u16) -> Result<Self> {
        call.target(id)
    }
}

/// An operation whose argument is read only.
pub(crate) fn takes<T: Pod, A: Authority>(
    call: &mut Call<'_>,
    at: u64,
    names: impl FnOnce(&T) -> A::Names,
    act: impl FnOnce(&mut Call<'_>, A, &T) -> Answer,
) -> Answer {
    A::before(call)?;
    let argument = call.read(at)?;
    let authority = A::of(call, names(&argument))?;
    act(call, authority, &argument)
}

/// An operation whose argument is written back.
pub(crate) fn updates<T: Pod, A: Authority>(
    call: &mut Call<'_>,
    at: u64,
    names: impl FnOnce(&T) -> A::Names,
    act: impl FnOnce(&mut Call<'_>, A, &mut T) -> Answer,
) -> Answer {
    A::before(call)?;
    let mut argument = call.read(at)?;
    let authority = A::of(call, names(&argument))?;
    let answer = act(call, authority, &mut argument)?;
    call.write(at, &argument)?;
    Ok(answer)
}

/// An operation whose argument is written back after a failure, too.
pub(crate) fn reports<T: Pod>(
    call: &mut Call<'_>,
    at: u64,
    act: impl FnOnce(&mut Call<'_>, &mut T) -> Answer,
) -> Answer {
    let mut argument = call.read(at)?;
    let answer = act(call, &mut argument);
    if answer != Err(Stop::Again) {
        call.write(at, &argument)?;
    }
    answer
}

/// An operation that only writes.
pub(crate) fn gives<T: Pod, A: Authority<Names = ()>>(
    call: &mut Call<'_>,
    at: u64,
    act: impl FnOnce(&mut Call<'_>, A, &mut T) -> Answer,
) -> Answer {
    let authority = A::of(call, ())?;
    let mut argument = T::zeroed();
    let answer = act(call, authority, &mut argument)?;
    call.write(at, &argument)?;
    Ok(answer)
}

/// An operation that the hypervisor knows and refuses.
pub(crate) fn refuse(errno: Errno) -> Answer {
    Err(errno.into())
}

/// Declares the operations of one hypercall and makes the function that runs them; for the tests
/// and the documentation also the list of declarations. See the module's documentation for the
/// parts.
macro_rules! operations {
    (
        $(#[$doc:meta])*
        $vis:vis fn $name:ident($call:ident $(, $about:ident: $about_type:ty)*) with $with:tt;
        declared $table:ident;
        command $command:expr;
        argument $argument:expr;
        accepted {
            $($number:ident: $form:ident $(($type:ty))? by $who:ident $(($field:ident))?
                => $act:path, $status:ident $(($note:literal))?;)*
        }
        refused { $($refused:ident: $errno:ident $(, $why:literal)?;)* }
        else $else:expr;
    ) => {
        $(#[$doc])*
        $vis fn $name($call: &mut $crate::hypercall::Call<'_> $(, $about: $about_type)*)
            -> $crate::hypercall::Answer
        {
            match $command {
                $(guest_pv_abi::$number => $crate::hypercall::op::operation!(
                    $form $(($type))?, $who $(($field))?, $with, $call, $argument, $act),)*
                $(guest_pv_abi::$refused =>
                    $crate::hypercall::op::refuse(oxen_types::Errno::$errno),)*
                _ => $else,
            }
        }

        /// The declarations above.
        #[cfg(test)]
        pub(crate) const $table: &[$crate::hypercall::op::declared::Declaration] = &[
            $($crate::hypercall::op::declared::declaration!(
                $number, $form $(($type))?, $who, $status $(($note))?),)*
            $($crate::hypercall::op::declared::Declaration::refused(
                guest_pv_abi::$refused as u64, stringify!($refused), stringify!($errno),
                concat!($($why)?)),)*
        ];
    };
}

/// The code of one operation.
macro_rules! operation {
    (plain, anyone, ($($with:tt)*), $call:ident, $at:expr, $act:path) => {
        $crate::hypercall::op::Reply::answer($act($call, $($with)*))
    };
    (plain, privileged, ($($with:tt)*), $call:ident, $at:expr, $act:path) => {{
        let authority = $call.privileged()?;
        $crate::hypercall::op::Reply::answer($act($call, authority, $($with)*))
    }};
    (takes($type:ty), anyone, ($($with:tt)*), $call:ident, $at:expr, $act:path) => {
        $crate::hypercall::op::takes($call, $at, |_: &$type| (),
            |call, _: $crate::hypercall::op::Anyone, argument: &$type|
                $crate::hypercall::op::Reply::answer($act(call, $($with)* argument)))
    };
    (takes($type:ty), privileged, ($($with:tt)*), $call:ident, $at:expr, $act:path) => {
        $crate::hypercall::op::takes($call, $at, |_: &$type| (),
            |call, who: $crate::hypercall::Privileged, argument: &$type|
                $crate::hypercall::op::Reply::answer($act(call, who, $($with)* argument)))
    };
    (takes($type:ty), target, ($($with:tt)*), $call:ident, $at:expr, $act:path) => {
        $crate::hypercall::op::takes($call, $at, |id: &$type| *id,
            |call, who: $crate::hypercall::Target, argument: &$type|
                $crate::hypercall::op::Reply::answer($act(call, &who, $($with)* argument)))
    };
    (takes($type:ty), target($field:ident), ($($with:tt)*), $call:ident, $at:expr, $act:path) => {
        $crate::hypercall::op::takes($call, $at, |argument: &$type| argument.$field,
            |call, who: $crate::hypercall::Target, argument: &$type|
                $crate::hypercall::op::Reply::answer($act(call, &who, $($with)* argument)))
    };
    (updates($type:ty), anyone, ($($with:tt)*), $call:ident, $at:expr, $act:path) => {
        $crate::hypercall::op::updates($call, $at, |_: &$type| (),
            |call, _: $crate::hypercall::op::Anyone, argument: &mut $type|
                $crate::hypercall::op::Reply::answer($act(call, $($with)* argument)))
    };
    (updates($type:ty), privileged, ($($with:tt)*), $call:ident, $at:expr, $act:path) => {
        $crate::hypercall::op::updates($call, $at, |_: &$type| (),
            |call, who: $crate::hypercall::Privileged, argument: &mut $type|
                $crate::hypercall::op::Reply::answer($act(call, who, $($with)* argument)))
    };
    (updates($type:ty), target($field:ident), ($($with:tt)*), $call:ident, $at:expr, $act:path) => {
        $crate::hypercall::op::updates($call, $at, |argument: &$type| argument.$field,
            |call, who: $crate::hypercall::Target, argument: &mut $type|
                $crate::hypercall::op::Reply::answer($act(call, &who, $($with)* argument)))
    };
    (reports($type:ty), anyone, ($($with:tt)*), $call:ident, $at:expr, $act:path) => {
        $crate::hypercall::op::reports($call, $at, |call, argument: &mut $type|
            $crate::hypercall::op::Reply::answer($act(call, $($with)* argument)))
    };
    (each($type:ty), anyone, (), $call:ident, $at:expr, $act:path) => {
        $crate::hypercall::op::each($call, |call, argument: &mut $type| $act(call, argument))
    };
    (batch($type:ty), anyone, (), $call:ident, $at:expr, $act:path) => {
        $crate::hypercall::op::batches($call, |call, batch: &mut [$type]| $act(call, batch))
    };
    (gives($type:ty), anyone, ($($with:tt)*), $call:ident, $at:expr, $act:path) => {
        $crate::hypercall::op::gives($call, $at,
            |call, _: $crate::hypercall::op::Anyone, argument: &mut $type|
                $crate::hypercall::op::Reply::answer($act(call, $($with)* argument)))
    };
    (plain, dom0, ($($with:tt)*), $call:ident, $request:expr, $act:path) => {
        $crate::hypercall::op::Reply::answer($act($call, $($with)*))
    };
    (takes($type:ty), dom0, ($($with:tt)*), $call:ident, $request:expr, $act:path) => {
        $request.takes(|argument: &$type|
            $crate::hypercall::op::Reply::answer($act($call, $($with)* argument)))
    };
    (updates($type:ty), dom0, ($($with:tt)*), $call:ident, $request:expr, $act:path) => {
        $request.updates(|argument: &mut $type|
            $crate::hypercall::op::Reply::answer($act($call, $($with)* argument)))
    };
    (reports($type:ty), dom0, ($($with:tt)*), $call:ident, $request:expr, $act:path) => {
        $request.reports(|argument: &mut $type|
            $crate::hypercall::op::Reply::answer($act($call, $($with)* argument)))
    };
    (gives($type:ty), dom0, ($($with:tt)*), $call:ident, $request:expr, $act:path) => {
        $request.gives(|argument: &mut $type|
            $crate::hypercall::op::Reply::answer($act($call, $($with)* argument)))
    };
    (whole($type:ty), dom0, ($($with:tt)*), $call:ident, $request:expr, $act:path) => {
        $request.whole(|envelope: &mut $type|
            $crate::hypercall::op::Reply::answer($act($call, $($with)* envelope)))
    };
    ($form:ident $(($type:ty))?, domain, $with:tt, $call:ident, $request:expr, $act:path) => {
        $crate::hypercall::op::operation!($form $(($type))?, dom0, $with, $call, $request, $act)
    };
    ($form:ident $(($type:ty))?, other, ($domain:ident,), $call:ident, $request:expr, $act:path) => {{
        $domain.is_other($call)?;
        $crate::hypercall::op::operation!($form $(($type))?, dom0, ($domain,), $call, $request, $act)
    }};
    (gives($type:ty), privileged, ($($with:tt)*), $call:ident, $at:expr, $act:path) => {
        $crate::hypercall::op::gives($call, $at,
            |call, who: $crate::hypercall::Privileged, argument: &mut $type|
                $crate::hypercall::op::Reply::answer($act(call, who, $($with)* argument)))
    };
}

pub(crate) use {operation, operations};
