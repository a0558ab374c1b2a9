//! `spec-ctrl=`, in the words of Xen's (docs/misc/xen-command-line there): a list of words split at
//! commas. A boolean alone sets all; each word is `word`, `no-word`, `word=yes` or `word=no`.

use oxen_arch::cmdline::parse_bool;

/// The command line's choice; `None` leaves a measure to the CPU's report.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// Guests get SPEC_CTRL and its kin.
    pub msr_sc: Option<bool>,
    pub ibrs: Option<bool>,
    pub stibp: Option<bool>,
    pub ssbd: Option<bool>,
    pub psfd: Option<bool>,
    /// Between vcpus.
    pub ibpb: Option<bool>,
    /// At each exit.
    pub ibpb_entry: Option<bool>,
    pub rsb: Option<bool>,
    pub md_clear: Option<bool>,
    pub l1d_flush: Option<bool>,
    pub bhi_dis_s: Option<bool>,
    pub div_scrub: Option<bool>,
}

/// Xen's words for what has no counterpart here: PV guests, thunks that the compiler would have to
/// make, an FPU that is always switched eagerly, branches and device registers that nothing of ours
/// depends on.
const NO_EFFECT: [&str; 6] = [
    "pv",
    "bti-thunk",
    "eager-fpu",
    "branch-harden",
    "srb-lock",
    "unpriv-mmio",
];

impl Options {
    /// `unknown` is called with each word that means nothing.
    pub fn parse(text: &str, unknown: &mut dyn FnMut(&str)) -> Self {
        let mut options = Self::default();
        for word in text.split(',').filter(|word| !word.is_empty()) {
            if !options.word(word) {
                unknown(word);
            }
        }
        options
    }

    fn word(&mut self, word: &str) -> bool {
        if let Some(all) = parse_bool(word) {
            self.hypervisor(all);
            self.guests(all);
            return true;
        }
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, parse_bool(value)),
            None => match word.strip_prefix("no-") {
                Some(key) => (key, Some(false)),
                None => (word, Some(true)),
            },
        };
        if NO_EFFECT.contains(&key) {
            return true;
        }
        let Some(on) = value else {
            return false;
        };
        let slot = match key {
            "xen" => {
                self.hypervisor(on);
                return true;
            }
            "hvm" => {
                self.guests(on);
                return true;
            }
            "msr-sc" => &mut self.msr_sc,
            "ibrs" => &mut self.ibrs,
            "stibp" => &mut self.stibp,
            "ssbd" => &mut self.ssbd,
            "psfd" => &mut self.psfd,
            "ibpb" => &mut self.ibpb,
            "ibpb-entry" => &mut self.ibpb_entry,
            "rsb" => &mut self.rsb,
            "md-clear" => &mut self.md_clear,
            "verw" => &mut self.md_clear,
            "l1d-flush" => &mut self.l1d_flush,
            "bhi-dis-s" => &mut self.bhi_dis_s,
            "div-scrub" => &mut self.div_scrub,
            _ => return false,
        };
        *slot = Some(on);
        true
    }

    fn hypervisor(&mut self, on: bool) {
        // Yes means what the CPU needs, not what costs without a need.
        let wish = (!on).then_some(false);
        (self.ibrs, self.stibp, self.ssbd, self.psfd) = (wish, wish, wish, wish);
        (self.ibpb, self.l1d_flush, self.bhi_dis_s) = (wish, wish, wish);
        self.div_scrub = wish;
        (self.rsb, self.md_clear, self.ibpb_entry) = (wish, wish, wish);
    }

    fn guests(&mut self, on: bool) {
        let wish = (!on).then_some(false);
        (self.msr_sc, self.rsb, self.md_clear, self.ibpb_entry) = (wish, wish, wish, wish);
    }
}
