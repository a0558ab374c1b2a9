//! COM1 through the uart_16550 crate, with a bound on every wait.
#![allow(unsafe_code, reason = "claims the UART's ports")]

use super::serial_config::{Parity, SerialConfig};
use uart_16550::backend::PioBackend;
use uart_16550::spec::registers::{FifoTriggerLevel, IER, Parity as UartParity, WordLength};
use uart_16550::{BaudRate, Config, Uart16550};

/// Polls of the status register before a byte is given up: some 30 ms of port reads, against 1.5 ms
/// that a full FIFO needs to drain at 115200 baud.
const SEND_POLLS: u32 = 30_000;
/// Bytes dropped unasked after a timeout, before the port gets another chance.
const DROP_AFTER_TIMEOUT: u32 = 4096;

pub(super) struct Serial {
    uart: Uart16550<PioBackend>,
    drop: u32,
}

impl Serial {
    /// `None` if nothing answers there.
    pub(super) fn new(config: &SerialConfig) -> Option<Self> {
        // SAFETY: the UART's ports are ours alone: guests' access to them is never passed through.
        let mut uart = unsafe { Uart16550::new_port(config.io) }.ok()?;
        uart.init(translate(config)).ok()?;
        Some(Self { uart, drop: 0 })
    }

    /// Sends all of `bytes`, a CR before each LF.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            match line.strip_suffix(b"\n") {
                Some(text) if !text.ends_with(b"\r") => {
                    self.send_plain(text);
                    self.send_plain(b"\r\n");
                }
                _ => self.send_plain(line),
            }
        }
    }

    fn send_plain(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.drop > 0 {
                self.drop = self.drop.saturating_sub(bytes.len() as u32);
                return;
            }
            let sent = (0..SEND_POLLS)
                .map(|_| self.uart.send_bytes(bytes))
                .find(|sent| *sent > 0)
                .unwrap_or(0);
            if sent == 0 {
                self.drop = DROP_AFTER_TIMEOUT;
            }
            bytes = bytes.get(sent..).unwrap_or(&[]);
        }
    }

    pub(super) fn receive(&mut self) -> Option<u8> {
        self.uart.try_receive_byte().ok()
    }

    pub(super) fn enable_receive_interrupt(&mut self) {
        self.uart.enable_interrupts(IER::DATA_READY);
    }
}

fn translate(config: &SerialConfig) -> Config {
    Config {
        frequency: config.base_baud.saturating_mul(16),
        baud_rate: BaudRate::from_integer(config.baud),
        fifo_trigger_level: Some(FifoTriggerLevel::One),
        data_bits: match config.data_bits {
            5 => WordLength::FiveBits,
            6 => WordLength::SixBits,
            7 => WordLength::SevenBits,
            _ => WordLength::EightBits,
        },
        extra_stop_bits: config.two_stop_bits,
        parity: match config.parity {
            Parity::None => UartParity::Disabled,
            Parity::Odd => UartParity::Odd,
            Parity::Even => UartParity::Even,
            Parity::Mark => UartParity::Forced1,
            Parity::Space => UartParity::Forced0,
        },
        ..Config::default()
    }
}
