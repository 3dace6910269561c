//! `Program`: what dyld would be told by a linked program for a Mac, read from its load commands and symbol table.
//!
//! Source: xnu's `EXTERNAL_HEADERS/mach-o/loader.h` and `nlist.h`.

use anyhow::{Context, Result, bail};

const MAGIC_64: u32 = 0xfeed_facf;
const ARM64: u32 = 0x0100_000c;
const EXECUTE: u32 = 2;
const PLATFORM_MACOS: u32 = 1;

const SYMTAB: u32 = 0x2;
const LOAD_DYLIB: u32 = 0xc;
const LOAD_WEAK_DYLIB: u32 = 0x8000_0018;
const MAIN: u32 = 0x8000_0028;
const BUILD_VERSION: u32 = 0x32;

/// Bits of a symbol's type: of the debugger only; what it is; seen from outside.
const STAB: u8 = 0xe0;
const TYPE: u8 = 0x0e;
const EXTERNAL: u8 = 0x01;
const UNDEFINED: u8 = 0;

/// An arm64 program for macOS.
#[derive(Debug, Default)]
pub(super) struct Program {
    /// The oldest macOS that may start it, as `14.0`.
    pub(super) minimum: String,
    /// dyld's names of the libraries that it loads, in order.
    pub(super) libraries: Vec<String>,
    /// What it takes from them: the symbol, and the library's place in `libraries`.
    pub(super) imports: Vec<(String, usize)>,
    /// How many symbols it defines.
    pub(super) defined: usize,
}

impl Program {
    /// # Errors
    /// When it is no program for macOS on arm64, is damaged, or takes a symbol from no library in particular.
    pub(super) fn read(data: &[u8]) -> Result<Self> {
        let header = [word(data, 0)?, word(data, 4)?, word(data, 12)?];
        if header != [MAGIC_64, ARM64, EXECUTE] {
            bail!("it is no Mach-O program for arm64");
        }
        let mut program = Self::default();
        let (mut at, mut symbols, mut main) = (32, None, false);
        for _ in 0..word(data, 16)? {
            match word(data, at)? {
                LOAD_DYLIB | LOAD_WEAK_DYLIB => {
                    let name = text(data, at + word(data, at + 8)? as usize)?;
                    program.libraries.push(name);
                }
                BUILD_VERSION if word(data, at + 8)? == PLATFORM_MACOS => {
                    let version = word(data, at + 12)?;
                    program.minimum = format!("{}.{}", version >> 16, version >> 8 & 0xff);
                }
                SYMTAB => symbols = Some([8, 12, 16].map(|field| word(data, at + field))),
                MAIN => main = true,
                _ => {}
            }
            at += word(data, at + 4)? as usize;
        }
        if !main || program.minimum.is_empty() {
            bail!("it has no entry point, or is not for macOS");
        }
        let [table, count, strings] = symbols.context("it has no symbol table")?;
        program.read_symbols(data, table? as usize, count? as usize, strings? as usize)?;
        Ok(program)
    }

    fn read_symbols(&mut self, data: &[u8], table: usize, count: usize, strings: usize) -> Result<()> {
        for at in (0..count).map(|i| table + 16 * i) {
            let kind = *data.get(at + 4).context("its symbol table is cut off")?;
            if kind & STAB != 0 {
                continue;
            }
            if kind & TYPE != UNDEFINED || kind & EXTERNAL == 0 {
                self.defined += 1;
                continue;
            }
            let name = text(data, strings + word(data, at)? as usize)?;
            // The library's number, from 1; 0 and those from 253 on name none.
            let number = usize::from(*data.get(at + 7).context("its symbol table is cut off")?);
            match number.checked_sub(1).filter(|place| *place < self.libraries.len()) {
                Some(place) => self.imports.push((name, place)),
                None => bail!("{name} comes from no library that it names"),
            }
        }
        Ok(())
    }
}

fn word(data: &[u8], at: usize) -> Result<u32> {
    let bytes = data.get(at..).and_then(|rest| rest.first_chunk()).context("the file is cut off")?;
    Ok(u32::from_le_bytes(*bytes))
}

fn text(data: &[u8], at: usize) -> Result<String> {
    let rest = data.get(at..).context("the file is cut off")?;
    let name = rest.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that takes `_exit` from the library of this number.
    fn sample(number: u8) -> Vec<u8> {
        let system = b"/usr/lib/libSystem.B.dylib\0\0\0\0\0\0";
        let size = 24 + system.len() as u32;
        let commands = 24 + size + 24 + 24;
        let table = 32 + commands;
        let mut words = vec![MAGIC_64, ARM64, 0, EXECUTE, 4, commands, 0, 0];
        words.extend([BUILD_VERSION, 24, PLATFORM_MACOS, 14 << 16, 14 << 16, 0]);
        words.extend([LOAD_DYLIB, size, 24, 0, 0, 0]);
        let mut data: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
        data.extend(system);
        let words = [MAIN, 24, 0, 0, 0, 0, SYMTAB, 24, table, 1, table + 16, 7];
        data.extend(words.into_iter().flat_map(u32::to_le_bytes));
        data.extend([1, 0, 0, 0, EXTERNAL, 0, 0, number]);
        data.extend([0; 8]);
        data.extend(b"\0_exit\0");
        data
    }

    #[test]
    fn a_program_says_where_each_symbol_comes_from() {
        let program = Program::read(&sample(1)).unwrap();
        assert_eq!(program.minimum, "14.0");
        assert_eq!(program.libraries, ["/usr/lib/libSystem.B.dylib"]);
        assert_eq!(program.imports, [("_exit".to_string(), 0)]);
    }

    #[test]
    fn a_symbol_of_no_library_and_damage_are_errors() {
        for number in [0, 2, 254, 255] {
            let error = Program::read(&sample(number)).unwrap_err().to_string();
            assert!(error.starts_with("_exit"), "{error}");
        }
        let whole = sample(1);
        for length in 0..whole.len() - 7 {
            assert!(Program::read(&whole[..length]).is_err(), "{length} bytes pass for a program");
        }
        assert!(Program::read(b"\x7fELF").is_err());
    }
}
