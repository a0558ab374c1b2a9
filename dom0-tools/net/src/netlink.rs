//! A conversation with the kernel over one netlink socket: a request, then its acknowledgement
//! (netlink(7)).

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};
use std::io;

/// The most that the kernel sends in one message (NLMSG_GOODSIZE is less).
const BUFFER: usize = 64 << 10;

pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    pub(crate) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Sends a request, and waits for its acknowledgement.
    pub(crate) fn ask<M>(&mut self, message: M, flags: u16) -> io::Result<()>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        self.ask_for(message, flags | NLM_F_ACK).map(drop)
    }

    /// Sends a request, and waits for the first reply: a message, or only the acknowledgement.
    pub(crate) fn ask_for<M>(&mut self, message: M, flags: u16) -> io::Result<Option<M>>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        let (bytes, sequence) = self.pack(message, flags);
        self.socket.send(&bytes, 0)?;
        self.answer(sequence)
    }

    /// Sends several messages as one; the kernel does all or none, and acknowledges each of `1..`
    /// that asks for it. The first refusal is the result.
    pub(crate) fn ask_at_once<M>(&mut self, messages: Vec<(M, u16)>) -> io::Result<()>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        let mut all = Vec::new();
        let mut awaited = Vec::new();
        for (message, flags) in messages {
            let (bytes, sequence) = self.pack(message, flags);
            all.extend(bytes);
            if flags & NLM_F_ACK != 0 {
                awaited.push(sequence);
            }
        }
        self.socket.send(&all, 0)?;
        // After a refusal there may be no more replies; late ones are recognised by their sequence
        // number.
        awaited
            .into_iter()
            .try_for_each(|sequence| self.answer::<M>(sequence).map(drop))
    }

    /// Requests all objects of a kind.
    pub(crate) fn list<M>(&mut self, message: M) -> io::Result<Vec<M>>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        let (bytes, sequence) = self.pack(message, NLM_F_DUMP);
        self.socket.send(&bytes, 0)?;
        let mut all = Vec::new();
        loop {
            for packet in self.receive::<M>()? {
                if packet.header.sequence_number != sequence {
                    continue;
                }
                match packet.payload {
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(error.to_io());
                    }
                    NetlinkPayload::Done(_) => return Ok(all),
                    NetlinkPayload::InnerMessage(message) => all.push(message),
                    _ => {}
                }
            }
        }
    }

    fn pack<M: NetlinkSerializable>(&mut self, message: M, flags: u16) -> (Vec<u8>, u32) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags | NLM_F_REQUEST;
        header.sequence_number = self.sequence;
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len().next_multiple_of(4)];
        packet.serialize(&mut bytes);
        (bytes, self.sequence)
    }

    /// The reply to one message; replies to other messages are dropped.
    fn answer<M: NetlinkDeserializable>(&self, sequence: u32) -> io::Result<Option<M>> {
        loop {
            for packet in self.receive::<M>()? {
                if packet.header.sequence_number != sequence {
                    continue;
                }
                match packet.payload {
                    NetlinkPayload::Error(error) => {
                        return error.code.map_or(Ok(None), |_| Err(error.to_io()));
                    }
                    NetlinkPayload::InnerMessage(message) => return Ok(Some(message)),
                    _ => {}
                }
            }
        }
    }

    /// The messages of one datagram, at least one.
    fn receive<M: NetlinkDeserializable>(&self) -> io::Result<Vec<NetlinkMessage<M>>> {
        let mut buffer = Vec::with_capacity(BUFFER);
        self.socket.recv(&mut buffer, 0)?;
        let mut rest = &buffer[..];
        let mut messages = Vec::new();
        while !rest.is_empty() {
            let message = NetlinkMessage::<M>::deserialize(rest).map_err(io::Error::other)?;
            let length = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(length..).unwrap_or_default();
            messages.push(message);
        }
        Ok(messages)
    }
}
