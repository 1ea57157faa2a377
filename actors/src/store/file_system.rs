//! Which file systems others change as well: another machine, or the host of a virtual one. The kernel tells of none of
//! those changes, so that session folders there are polled.

use rustix::fs::FsWord;

/// Magic numbers, from `linux/magic.h` and the file systems' own headers.
const SHARED: [(FsWord, &str); 14] = [
    (0x6969, "NFS"),
    (0x517B, "SMB"),
    (0xFF53_4D42, "SMB"),
    (0xFE53_4D42, "SMB"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "FUSE or virtiofs"),
    (0x00C3_6400, "Ceph"),
    (0x5346_414F, "AFS"),
    (0x7461_636F, "OCFS2"),
    (0x0116_1970, "GFS2"),
    (0x786F_4256, "VirtualBox"),
    (0x0BD0_0BD0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0xBACB_ACBC, "VMware"),
];

/// The kind of shared file system that has this magic number; `None` for a local one.
pub fn shared_kind(magic: FsWord) -> Option<&'static str> {
    SHARED.iter().find(|(shared, _)| *shared == magic).map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_machines_and_the_host_of_a_virtual_one_change_is_polled() {
        // As `stat -f -c %t` names them.
        let polled =
            [("6969", "NFS"), ("1021997", "9p"), ("65735546", "FUSE or virtiofs"), ("fe534d42", "SMB")];
        for (magic, kind) in polled {
            assert_eq!(shared_kind(FsWord::from_str_radix(magic, 16).unwrap()), Some(kind), "{magic}");
        }
    }

    #[test]
    fn local_file_systems_are_watched() {
        // ext4, xfs, btrfs, tmpfs, overlayfs, zfs, f2fs, bcachefs.
        for magic in
            ["ef53", "58465342", "9123683e", "1021994", "794c7630", "2fc12fc1", "f2f52010", "ca451a4e"]
        {
            assert_eq!(shared_kind(FsWord::from_str_radix(magic, 16).unwrap()), None, "{magic}");
        }
    }
}
