//! Metal's device, or why there is none: candle itself asks for both that are checked here without looking first, and
//! would panic.

use crate::load::LoadError;

/// Whether candle can run on Metal here.
///
/// # Errors
/// [`LoadError::NoMetal`] with the reason.
#[cfg(target_os = "macos")]
pub(crate) fn check() -> Result<(), LoadError> {
    // Candle 0.11 keeps its buffers in residency sets, which came with macOS 15.
    if objc2::runtime::AnyClass::get(c"MTLResidencySetDescriptor").is_none() {
        return Err(LoadError::NoMetal("candle's Metal needs macOS 15 or newer"));
    }
    if objc2_metal::MTLCopyAllDevices().is_empty() {
        return Err(LoadError::NoMetal("this Mac has no Metal device"));
    }
    Ok(())
}

/// Whether candle can run on Metal here: never.
///
/// # Errors
/// [`LoadError::NoMetal`].
#[cfg(not(target_os = "macos"))]
pub(crate) fn check() -> Result<(), LoadError> {
    Err(LoadError::NoMetal("only a Mac has it"))
}

/// The first Metal device.
///
/// # Errors
/// As [`check`]; [`LoadError::Device`] when the device cannot be opened.
pub(crate) fn open() -> Result<candle_core::Device, LoadError> {
    check()?;
    Ok(candle_core::Device::new_metal(0)?)
}
