//! How a database file is laid out, as its header says.

/// The header of a database file.
pub(super) const HEADER_BYTES: usize = 100;
/// Where a header says how the file is laid out: page size and versions; schema format; vacuum mode and encoding; vacuum
/// mode again.
const FORMAT_RANGES: [std::ops::Range<usize>; 4] = [16..24, 44..48, 52..60, 64..68];

/// What a database file's header says of its layout, which a connection takes over when it opens the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::store) struct FileFormat([u8; 24]);

impl FileFormat {
    pub(super) fn of(header: &[u8; HEADER_BYTES]) -> Self {
        let mut format = Self::default();
        let bytes = FORMAT_RANGES.into_iter().flatten().filter_map(|index| header.get(index));
        format.0.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
        format
    }

    /// The size of a page in bytes.
    pub(in crate::store) fn page_bytes(&self) -> u32 {
        match u16::from_be_bytes([self.0[0], self.0[1]]) {
            1 => 65_536,
            bytes => u32::from(bytes),
        }
    }
}
