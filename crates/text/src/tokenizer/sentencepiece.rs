//! `tokenizer.model`: SentencePiece's protobuf, read into the same plain data as a GGUF vocabulary.
//!
//! Only the fields that change how text is encoded are read. Every length is checked against the bytes that remain,
//! and nothing is allocated by a length that the file merely claims.

use serde_json::Value;

use super::{GgufVocab, config};
use crate::TextError;
use crate::tokenizer::vocab::MAX_TOKENS;

/// One field of a protobuf message.
enum Field<'a> {
    Varint(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
    Fixed64,
}

/// Reads the fields of one message, first to last.
struct Message<'a>(&'a [u8]);

impl<'a> Message<'a> {
    fn next(&mut self) -> Result<Option<(u64, Field<'a>)>, TextError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let field = match key & 7 {
            0 => Field::Varint(self.varint()?),
            1 => {
                self.take(8)?;
                Field::Fixed64
            }
            2 => {
                let len = self.varint()?;
                Field::Bytes(self.take(usize::try_from(len).unwrap_or(usize::MAX))?)
            }
            5 => {
                Field::Fixed32(self.take(4)?.try_into().map(u32::from_le_bytes).map_err(TextError::invalid)?)
            }
            other => return Err(TextError::Invalid(format!("tokenizer.model has wire type {other}"))),
        };
        Ok(Some((key >> 3, field)))
    }

    fn varint(&mut self) -> Result<u64, TextError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(TextError::invalid("tokenizer.model has a number without an end"))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], TextError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or_else(|| {
            TextError::Invalid(format!("tokenizer.model ends {} bytes early", len - self.0.len()))
        })?;
        self.0 = rest;
        Ok(taken)
    }
}

/// What the trainer wrote about the model; the defaults are `sentencepiece_model.proto`'s.
struct Trainer {
    model_type: u64,
    unk: i64,
    bos: i64,
    eos: i64,
    pad: i64,
}

impl Trainer {
    fn read(bytes: &[u8]) -> Result<Self, TextError> {
        let mut trainer = Self { model_type: 1, unk: 0, bos: 1, eos: 2, pad: -1 };
        let mut message = Message(bytes);
        while let Some((number, field)) = message.next()? {
            if let Field::Varint(value) = field {
                // Negative int32 values are written as 64-bit two's complement.
                match number {
                    3 => trainer.model_type = value,
                    40 => trainer.unk = value as i64,
                    41 => trainer.bos = value as i64,
                    42 => trainer.eos = value as i64,
                    43 => trainer.pad = value as i64,
                    _ => {}
                }
            }
        }
        Ok(trainer)
    }
}

/// Reads a model. `config` may say whether BOS and EOS are added.
pub(super) fn read(bytes: &[u8], config: Option<&Value>) -> Result<GgufVocab, TextError> {
    let mut vocab = GgufVocab {
        add_space_prefix: Some(true),
        remove_extra_whitespaces: Some(true),
        ..Default::default()
    };
    let mut trainer = Trainer::read(&[])?;
    let mut message = Message(bytes);
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (1, Field::Bytes(piece)) => push_piece(&mut vocab, piece)?,
            (2, Field::Bytes(spec)) => trainer = Trainer::read(spec)?,
            (3, Field::Bytes(spec)) => read_normalizer(&mut vocab, spec)?,
            _ => {}
        }
    }
    if vocab.tokens.is_empty() {
        return Err(TextError::invalid("tokenizer.model has no pieces"));
    }
    vocab.model = match trainer.model_type {
        1 => "t5".to_owned(),
        2 => "llama".to_owned(),
        other => return Err(TextError::Unsupported(format!("SentencePiece model type {other}"))),
    };
    let id = |id: i64| u32::try_from(id).ok().filter(|id| (*id as usize) < vocab.tokens.len());
    let (bos, eos, unk, pad) = (id(trainer.bos), id(trainer.eos), id(trainer.unk), id(trainer.pad));
    let unigram = trainer.model_type == 1;
    vocab.add_bos = Some(config::flag(config, "add_bos_token").unwrap_or(!unigram && bos.is_some()));
    vocab.add_eos = Some(config::flag(config, "add_eos_token").unwrap_or(unigram && eos.is_some()));
    (vocab.bos, vocab.eos, vocab.unk, vocab.pad) = (bos, eos, unk, pad);
    Ok(vocab)
}

fn push_piece(vocab: &mut GgufVocab, bytes: &[u8]) -> Result<(), TextError> {
    if vocab.tokens.len() >= MAX_TOKENS {
        return Err(TextError::Invalid(format!("tokenizer.model has more than {MAX_TOKENS} pieces")));
    }
    let (mut text, mut score, mut kind) = ("", 0.0, 1);
    let mut message = Message(bytes);
    while let Some(field) = message.next()? {
        match field {
            (1, Field::Bytes(bytes)) => text = std::str::from_utf8(bytes).map_err(TextError::invalid)?,
            (2, Field::Fixed32(bits)) => score = f32::from_bits(bits),
            (3, Field::Varint(value)) => kind = i32::try_from(value).unwrap_or(1),
            _ => {}
        }
    }
    vocab.tokens.push(text.to_owned());
    vocab.scores.push(score);
    vocab.token_types.push(kind);
    Ok(())
}

fn read_normalizer(vocab: &mut GgufVocab, bytes: &[u8]) -> Result<(), TextError> {
    let mut message = Message(bytes);
    while let Some(field) = message.next()? {
        match field {
            (2, Field::Bytes(map)) => vocab.precompiled_charsmap = map.to_vec(),
            (3, Field::Varint(value)) => vocab.add_space_prefix = Some(value != 0),
            (4, Field::Varint(value)) => vocab.remove_extra_whitespaces = Some(value != 0),
            _ => {}
        }
    }
    Ok(())
}
