//! The bzImage container: a real-mode setup part with a header at 0x1f1, then the protected-mode
//! part, which holds the packed kernel at an offset that the header names.

const SETUP_SECTS: usize = 0x1f1;
const MAGIC_AT: usize = 0x202;
const VERSION: usize = 0x206;
/// `cmdline_size`, since version 2.06.
const COMMAND_LINE_SIZE: usize = 0x238;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
/// The first version of the protocol that has the payload's place.
const VERSION_WITH_PAYLOAD: u16 = 0x0208;

/// The payload of a bzImage, and the header's fields about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Payload<'a> {
    /// The packed kernel.
    pub(super) packed: &'a [u8],
    /// The longest command line that the kernel takes, if the header says so.
    pub(super) max_command_line: Option<u32>,
}

/// Finds the packed kernel; `None` if this is no bzImage.
pub(super) fn payload(bytes: &[u8]) -> Result<Option<Payload<'_>>, String> {
    if bytes.get(MAGIC_AT..MAGIC_AT + 4) != Some(b"HdrS") {
        return Ok(None);
    }
    let cut = || "the bzImage is truncated".to_owned();
    let version = u16_at(bytes, VERSION).ok_or_else(cut)?;
    if version < VERSION_WITH_PAYLOAD {
        return Err(format!(
            "the bzImage's boot protocol is {}.{:02}; 2.08 or newer is needed",
            version >> 8,
            version & 0xff
        ));
    }
    // 0 stands for 4, for very old kernels.
    let sectors = match bytes.get(SETUP_SECTS).copied().ok_or_else(cut)? {
        0 => 4,
        n => usize::from(n),
    };
    let offset = u32_at(bytes, PAYLOAD_OFFSET).ok_or_else(cut)?;
    let length = u32_at(bytes, PAYLOAD_LENGTH).ok_or_else(cut)?;
    let start = ((sectors + 1) * 512).checked_add(offset).ok_or_else(cut)?;
    let end = start.checked_add(length).ok_or_else(cut)?;
    match bytes.get(start..end) {
        Some([]) => Err("the bzImage holds no kernel".to_owned()),
        Some(packed) => {
            let most = u32_at(bytes, COMMAND_LINE_SIZE).and_then(|most| u32::try_from(most).ok());
            Ok(Some(Payload {
                packed,
                max_command_line: most.filter(|most| *most > 0),
            }))
        }
        None => Err(format!(
            "the bzImage is truncated: it should have {end} bytes or more and has {}",
            bytes.len()
        )),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?)).ok()
}
