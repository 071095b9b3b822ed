/*
 * boxlite-images: an embeddable OCI image store.
 *
 * One handle on a directory (bl_storage) takes image bytes, verifies them, keeps them named by their digests, and turns
 * layers into directory trees and disks. No daemon, no root, no external program (but the credential helpers of
 * bl_pull()).
 *
 * WHAT THE LIBRARY GUARANTEES
 *
 *  1. Nothing visible in the store is partial. An object appears, whole and verified, when the call that makes it
 *     succeeds. It survives power loss (unless BL_DURABILITY_NONE). Extracted trees are flushed in the background. If
 *     the power goes before, the next open removes the tree, and it is made again from its layer.
 *  2. A failing call changes nothing that is visible, leaves nothing half-made, and sets its outputs to NULL, false or
 *     zero. (bl_pull(), bl_import() and bl_assemble_rootfs() keep layers that they have verified, until a collection.)
 *  3. A fallible function returns a bl_status: BL_OK (0), or a negative BL_E_* whose number never changes meaning. It
 *     stores a bl_error in *err where err is not NULL, and NULL there on success. There is no "last error". Besides
 *     the statuses that its comment names, any function may return BL_E_INVALID_ARGUMENT, naming the argument,
 *     BL_E_FORKED and BL_E_INTERNAL.
 *  4. Any function may be called from any thread. One bl_staged used by two threads at a time gives BL_E_BUSY.
 *  5. Freeing NULL is a no-op. No call consumes a handle: you free what you were given, once, in any order.
 *     What depends on a handle that you free keeps what it needs.
 *  6. Strings and data that you pass are read during the call only. Digests are "sha256:<64 lower-case hex digits>" or
 *     "sha512:<128>"; anything else is refused before it comes near a path.
 *  7. No panic, exception, signal or exit leaves the library. It prints nothing. It reads environment
 *     variables only where it is asked to, by BL_PULL_AUTH_FILES and BL_PULL_PROXY_ENVIRONMENT. Beyond that it reads PATH
 *     for credential helpers, and SSL_CERT_FILE and SSL_CERT_DIR for TLS. The only programs that it runs are credential
 *     helpers, where bl_pull_options.auth_file and BL_PULL_AUTH_FILES lead to some. It does not touch the working
 *     directory, the umask or signal handlers. Its file descriptors are close-on-exec. Its threads are named bl-* and
 *     block all signals.
 *  8. In a child made by fork() without exec(), calls that would use the store through handles from before answer
 *     BL_E_FORKED. Freeing them is allowed and leaves the parent's work alone.
 *
 * WHAT THE CALLER MUST NOT DO
 *
 *  1. Pass a pointer that is neither NULL nor valid for the call. Use a handle after freeing it, or free it while
 *     another thread is in a call with it.
 *  2. Leave struct_size unset. Initialise option and result structs with their BL_*_INIT macro (or *_init() function):
 *     then fields that a later version adds are zero, which means their default. A size that cannot be gives
 *     BL_E_INVALID_ARGUMENT; a value or flag that the loaded library does not know gives BL_E_UNSUPPORTED, and is never
 *     ignored.
 *  3. Pass an err or out that points at something still to be freed: it is overwritten, not freed.
 *  4. Change anything in the store's directory except through this library.
 *
 * NAMES
 *
 *  bl_<verb>_<noun>() changes the store: bl_extract_layer(), bl_tag_image(). bl_<noun>_<verb>() opens, makes or asks a
 *  handle: bl_image_open(), bl_lease_create(), bl_image_text(). What concerns the whole store, and the staged download,
 *  have bare verbs: bl_pull(), bl_gc(); bl_write(), bl_commit(), bl_abort(). A handle ends with bl_<noun>_free(), and a
 *  store with bl_storage_close().
 *
 *  A number that has a unit says it in its name: _bytes, _seconds, _ms, _nanoseconds. Points in time are seconds since
 *  1970. A length len or <pointer>_len, and the size of a blob as a descriptor declares it, are in bytes.
 *
 * This file is generated. Copyright the boxlite-images authors; licensed under Apache-2.0.
 */

#ifndef BOXLITE_IMAGES_H
#define BOXLITE_IMAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#define BL_VERSION_MAJOR 0
#define BL_VERSION_MINOR 1
#define BL_VERSION_PATCH 0
#define BL_VERSION_NUMBER 1000
#define BL_VERSION_STRING "0.1.0"

/* Success, or why not. The numbers never change; a newer library may return new ones. */
typedef int32_t bl_status;

#define BL_OK 0
/* An argument is NULL where it may not be, malformed, or out of range. */
#define BL_E_INVALID_ARGUMENT (-1)
/* Well formed, but not something this version or this file system can do. */
#define BL_E_UNSUPPORTED (-2)
/* The object is not in the store, or the path does not exist. */
#define BL_E_NOT_FOUND (-3)
/* Another thread is using this handle right now, or what it stands for is not over. */
#define BL_E_BUSY (-4)
/* Not now: the handle is past this call, as for a write after a commit. */
#define BL_E_STATE (-5)
/* There is something at the destination that is not to be replaced. */
#define BL_E_EXISTS (-6)
/* The operating system reported an error that has no status of its own; see the errno. */
#define BL_E_IO (-7)
/* The disk, the inode table or the quota is full. */
#define BL_E_NO_SPACE (-8)
/* The operating system refused access, or the file system or the store is read-only. */
#define BL_E_PERMISSION (-9)
/* The bytes do not hash to the digest they were promised to have. */
#define BL_E_DIGEST_MISMATCH (-10)
/* There are more or fewer bytes than declared. */
#define BL_E_SIZE_MISMATCH (-11)
/* The input violates its format: JSON, tar, gzip, zstd or the OCI specification. */
#define BL_E_MALFORMED (-12)
/* A name in the input would leave the directory it belongs to. */
#define BL_E_UNSAFE_PATH (-13)
/* A limit would be exceeded; the message names it with both values. */
#define BL_E_LIMIT (-14)
/* The registry wants credentials, or does not accept the ones given. */
#define BL_E_UNAUTHORIZED (-15)
/* The registry knows the caller and refuses. */
#define BL_E_DENIED (-16)
/* The registry could not be reached, or the connection broke. */
#define BL_E_NETWORK (-17)
/* The deadline of the call passed. */
#define BL_E_TIMEOUT (-18)
/* The registry asks to come back later. */
#define BL_E_RATE_LIMITED (-19)
/* The registry answered with an error or against its protocol. */
#define BL_E_REGISTRY (-20)
/* The call's cancel token was triggered. */
#define BL_E_CANCELLED (-21)
/* A callback of the host answered non-zero. */
#define BL_E_CALLBACK (-22)
/* The handle was made before a fork() and is used in the child. */
#define BL_E_FORKED (-23)
/* A bug in this library; the process lives on. Please report the message. */
#define BL_E_INTERNAL (-24)

/* Bits of bl_extract_result.anomalies. */
/* Bytes other than zeros follow the last gzip member. */
#define BL_ANOMALY_TRAILING_COMPRESSED 1
/* Bytes other than zeros follow the end of the tar archive. */
#define BL_ANOMALY_TRAILING_ARCHIVE 2
/* An extended attribute, ACL or file flag was not set: reserved, not permitted, or not supported here. */
#define BL_ANOMALY_SKIPPED_XATTR 4
/* AUFS bookkeeping (`.wh..wh.aufs`, `.plnk`, `.orph`) was left out. */
#define BL_ANOMALY_SKIPPED_AUFS 8
/* A hard link to itself was left out. */
#define BL_ANOMALY_SELF_LINK 16
/* A global PAX header or volume label was ignored. */
#define BL_ANOMALY_IGNORED_HEADER 32
/* A device node became an empty file; the metadata record has its numbers. */
#define BL_ANOMALY_DEVICE_PLACEHOLDER 64
/* An owner could not be set although the process is root (a user namespace without that id), or a set-id bit. */
#define BL_ANOMALY_OWNER_NOT_SET 128
/* A hard link to a file that the layer does not have, but a lower one may: it is in the metadata record only. */
#define BL_ANOMALY_LOWER_LINK 256
/* A whiteout whose marker's name would be too long: it is in the metadata record only. */
#define BL_ANOMALY_LONG_WHITEOUT 512
/* A hard link became a copy: the file system allows no more links to that file. */
#define BL_ANOMALY_COPIED_LINK 1024


/**
 * bl_has_feature(): pulls from registries, bl_pull() and all that is called after it. Without it a program that uses them
 * does not link.
 */
#define BL_FEATURE_PULL 1

/**
 * bl_has_feature(): layers are inflated by ISA-L.
 */
#define BL_FEATURE_ISAL 2

/**
 * Bytes of the longest digest as a string, with its NUL: "sha512:" and 128 hex digits.
 */
#define BL_DIGEST_MAX 136

/**
 * Nothing is logged.
 */
#define BL_LOG_OFF 0

/**
 * Something failed that no call could report.
 */
#define BL_LOG_ERROR 1

/**
 * Something is odd, and the library went on.
 */
#define BL_LOG_WARN 2

/**
 * A blob was committed, or a layer extracted.
 */
#define BL_LOG_INFO 3

/**
 * Details for those who look for a mistake.
 */
#define BL_LOG_DEBUG 4

/**
 * Everything.
 */
#define BL_LOG_TRACE 5

/**
 * bl_storage_options.flags: nothing in the directory is created, changed or removed.
 */
#define BL_STORAGE_READ_ONLY 1

/**
 * bl_storage_options.flags: no other process opens the store as long as this one has it open. Only for file systems where
 * file locks (flock) do not work, in which a store is not opened otherwise.
 */
#define BL_STORAGE_SINGLE_PROCESS 2

/**
 * bl_storage_options.durability: what was committed survives power loss. The default.
 */
#define BL_DURABILITY_FULL 0

/**
 * bl_storage_options.durability: nothing is flushed; for stores that can be thrown away. What is visible is whole
 * after any crash of a process, but not after power loss.
 */
#define BL_DURABILITY_NONE 1

/**
 * bl_tree_options.flags: as root, make device nodes. By default a device becomes an empty file, and the metadata record
 * says which device it stands for.
 */
#define BL_TREE_DEVICE_NODES 1

/**
 * bl_tree_options.flags: refuse a layer with any anomaly, as BL_E_MALFORMED.
 */
#define BL_TREE_STRICT 2

/**
 * bl_tree_options.flags: leave owners as they are. Owner, mode and type of files and directories
 * go to the extended attribute user.containers.override_stat. libkrun, fuse-overlayfs and
 * containers/storage read it. Files and directories are then accessible to whoever makes the tree,
 * and without set-id bits.
 */
#define BL_TREE_OVERRIDE_STAT 4

/**
 * bl_tree_options.whiteouts: as in the layer, empty files `.wh.<name>` and `.wh..wh..opq`. The default.
 */
#define BL_WHITEOUTS_MARKERS 0

/**
 * bl_tree_options.whiteouts: as overlayfs has it in its lower directories: character devices 0:0, and the attribute
 * trusted.overlay.opaque, which only root can set.
 */
#define BL_WHITEOUTS_OVERLAY 1

/**
 * bl_tree_options.whiteouts: the same with user.overlay.opaque, for mounts with the option userxattr.
 */
#define BL_WHITEOUTS_USER_OVERLAY 2

/**
 * bl_tree_options.form: a directory. The default.
 */
#define BL_LAYER_DIRECTORY 0

/**
 * bl_tree_options.form: one file that nobody may write to, with an EROFS file system of the layer
 * in it. Owners, devices and attributes are as the layer has them, whoever makes it. Whiteouts are
 * as overlayfs has them. It can be mounted and attached to a guest, and its bytes depend on the
 * uncompressed layer alone. The flags about the look of a tree, and whiteouts, must be 0 with it.
 */
#define BL_LAYER_EROFS 1

/**
 * bl_layer_entry.kind: there are no more entries.
 */
#define BL_ENTRY_END 0

/**
 * bl_layer_entry.kind: a regular file.
 */
#define BL_ENTRY_FILE 1

/**
 * bl_layer_entry.kind: a directory.
 */
#define BL_ENTRY_DIRECTORY 2

/**
 * bl_layer_entry.kind: a symbolic link.
 */
#define BL_ENTRY_SYMLINK 3

/**
 * bl_layer_entry.kind: another name of the file at the path in link, which has the metadata.
 */
#define BL_ENTRY_HARDLINK 4

/**
 * bl_layer_entry.kind: a hard link to a path that the layer does not have; a lower one may. It is not in the tree.
 */
#define BL_ENTRY_LOWER_LINK 5

/**
 * bl_layer_entry.kind: a named pipe.
 */
#define BL_ENTRY_FIFO 6

/**
 * bl_layer_entry.kind: a character device.
 */
#define BL_ENTRY_CHAR_DEVICE 7

/**
 * bl_layer_entry.kind: a block device.
 */
#define BL_ENTRY_BLOCK_DEVICE 8

/**
 * bl_layer_entry.kind: the path, in lower layers, is gone.
 */
#define BL_ENTRY_WHITEOUT 9

/**
 * bl_layer_entry.kind: everything in the directory, in lower layers, is gone.
 */
#define BL_ENTRY_OPAQUE 10

/**
 * bl_layer_entry.flags: a directory that the layer uses without an entry for it.
 */
#define BL_ENTRY_FLAG_IMPLIED 1

/**
 * bl_image_text(): the full name that the image was opened by; absent where it was opened by digest.
 */
#define BL_IMAGE_NAME 1

/**
 * bl_image_text(): the digest of the manifest.
 */
#define BL_IMAGE_MANIFEST_DIGEST 2

/**
 * bl_image_text(): the digest of the config.
 */
#define BL_IMAGE_CONFIG_DIGEST 3

/**
 * bl_image_text(): the config as it is, in JSON; absent where it is missing in the store.
 */
#define BL_IMAGE_CONFIG_JSON 4

/**
 * bl_image_text(): when the image was made, as its maker wrote it (RFC 3339).
 */
#define BL_IMAGE_CREATED 5

/**
 * bl_image_text(): the processor, as in GOARCH: "amd64", "arm64".
 */
#define BL_IMAGE_ARCHITECTURE 6

/**
 * bl_image_text(): which kind of that processor, such as "v8".
 */
#define BL_IMAGE_VARIANT 7

/**
 * bl_image_text(): the operating system, as in GOOS: "linux".
 */
#define BL_IMAGE_OS 8

/**
 * bl_image_text(): the first words of the command, by index.
 */
#define BL_IMAGE_ENTRYPOINT 9

/**
 * bl_image_text(): the arguments, or without an entrypoint the whole command, by index.
 */
#define BL_IMAGE_CMD 10

/**
 * bl_image_text(): variables as "NAME=value", by index.
 */
#define BL_IMAGE_ENV 11

/**
 * bl_image_text(): the directory to start in.
 */
#define BL_IMAGE_WORKING_DIR 12

/**
 * bl_image_text(): "user", "uid", "user:group" or "uid:gid", to be looked up in the image.
 */
#define BL_IMAGE_USER 13

/**
 * bl_image_text(): the signal that asks it to stop, such as "SIGTERM".
 */
#define BL_IMAGE_STOP_SIGNAL 14

/**
 * bl_image_text(): ports that it listens on, such as "8080/tcp", by index.
 */
#define BL_IMAGE_EXPOSED_PORT 15

/**
 * bl_image_text(): directories with data of its own, by index.
 */
#define BL_IMAGE_VOLUME 16

/**
 * bl_image_text(): keys of the labels, sorted, by index.
 */
#define BL_IMAGE_LABEL_KEY 17

/**
 * bl_image_text(): the label of the key with the same index.
 */
#define BL_IMAGE_LABEL_VALUE 18

/**
 * bl_image_text(): digests of its config and layers that are not in the store, by index.
 */
#define BL_IMAGE_MISSING 19

/**
 * bl_image_text(): the digest of the index that led to the image, where a pull came by one.
 */
#define BL_IMAGE_INDEX_DIGEST 20

/**
 * bl_image_text(): the name in its short form, to be shown: "alpine:3.20".
 */
#define BL_IMAGE_FAMILIAR_NAME 21

/**
 * bl_pull_progress.phase: it finds out what the image is.
 */
#define BL_PULL_PHASE_RESOLVING 0

/**
 * bl_pull_progress.phase: it fetches and unpacks layers.
 */
#define BL_PULL_PHASE_FETCHING 1

/**
 * bl_pull_progress.phase: all is there.
 */
#define BL_PULL_PHASE_DONE 2

/**
 * bl_pull_options.flags: store the layers and do not unpack them.
 */
#define BL_PULL_NO_UNPACK 1

/**
 * bl_pull_options.flags: the platform exactly, and not one that runs there too.
 */
#define BL_PULL_STRICT_PLATFORM 2

/**
 * bl_pull_options.flags: read the files where other tools keep credentials: $REGISTRY_AUTH_FILE, containers/auth.json below
 * $XDG_RUNTIME_DIR and $XDG_CONFIG_HOME, config.json in $DOCKER_CONFIG or ~/.docker.
 */
#define BL_PULL_AUTH_FILES 4

/**
 * bl_pull_options.flags: do not run the credential helpers that auth_file, or a file of BL_PULL_AUTH_FILES, names.
 */
#define BL_PULL_NO_CREDENTIAL_HELPERS 8

/**
 * bl_pull_options.flags: use the proxies of the environment: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, in both cases, as
 * they were at the first pull that wanted them.
 */
#define BL_PULL_PROXY_ENVIRONMENT 16

/**
 * bl_pull_options.flags: never ask the registry itself where its mirrors do not have something.
 */
#define BL_PULL_MIRRORS_ONLY 32

/**
 * bl_pull_options.policy: ask the registry when the image is not here, or not all of it. The default.
 */
#define BL_PULL_POLICY_MISSING 0

/**
 * bl_pull_options.policy: always ask; what is here is not fetched again.
 */
#define BL_PULL_POLICY_ALWAYS 1

/**
 * bl_pull_options.policy: always ask; an image that is here is good enough where the registry does not answer.
 */
#define BL_PULL_POLICY_NEWER 2

/**
 * bl_pull_options.policy: never ask.
 */
#define BL_PULL_POLICY_NEVER 3

/**
 * bl_registry_options.flags: it is reached by plain HTTP. Of a mirror its address says so.
 */
#define BL_REGISTRY_PLAIN_HTTP 1

/**
 * bl_registry_options.flags: whoever answers is believed to be it. Not for production.
 */
#define BL_REGISTRY_SKIP_VERIFY 2

/**
 * bl_import_options.flags: do not unpack. Then layers are read once more, to compare them with the config's diff_ids.
 */
#define BL_IMPORT_NO_UNPACK 1

/**
 * bl_import_options.flags: no variant of the platform below the one that is wanted.
 */
#define BL_IMPORT_STRICT_PLATFORM 2

/**
 * bl_import_options.flags: a layout's folder on the store's file system gives its layers by hard links. Whoever can
 * write to the folder's files can then change a layer. What cannot be linked is copied.
 */
#define BL_IMPORT_HARD_LINK 4

/**
 * bl_export_options.flags: bl_export() makes a folder that is an OCI layout, and not a tar archive.
 */
#define BL_EXPORT_FOLDER 1

/**
 * bl_export_options.flags: replace what is at the path: a file by an archive, a folder by a folder.
 */
#define BL_EXPORT_REPLACE 2

/**
 * bl_rootfs_options.mode: copies of the files in the extracted layers, which are made where they are missing. The default.
 */
#define BL_ROOTFS_MODE_COPY 0

/**
 * bl_rootfs_options.mode: the same with shared blocks, where the file system has that (Btrfs, XFS); copies elsewhere.
 */
#define BL_ROOTFS_MODE_REFLINK 1

/**
 * bl_rootfs_options.mode: further names of the files in the extracted layers, on the same file system. Only to be read:
 * who writes to one of them writes to the store's.
 */
#define BL_ROOTFS_MODE_HARDLINK 2

/**
 * bl_rootfs_options.mode: straight from the stored blobs; nothing is kept for the next time.
 */
#define BL_ROOTFS_MODE_DIRECT 3

/**
 * bl_rootfs_options.flags: replace a destination that is a directory and not empty, in one step where the file system can
 * do that.
 */
#define BL_ROOTFS_REPLACE 1

/**
 * bl_rootfs_options.flags: fill a destination that is a directory, as is done with a mount point, instead of renaming a new
 * one to it. It must be empty, but for lost+found. Its entries appear one after the other.
 */
#define BL_ROOTFS_INTO_EXISTING 2

/**
 * bl_disk_file.kind: a file with the bytes of data, or with the content of source.
 */
#define BL_DISK_FILE_REGULAR 0

/**
 * bl_disk_file.kind: a directory. What the image has in it stays.
 */
#define BL_DISK_FILE_DIRECTORY 1

/**
 * bl_disk_file.kind: a symlink that leads to target.
 */
#define BL_DISK_FILE_SYMLINK 2

/**
 * bl_disk_options.format: ext4, which every Linux guest mounts, in one raw file. The default.
 */
#define BL_DISK_EXT4 0

/**
 * bl_disk_options.format: EROFS, read-only, for Linux 5.4 or newer.
 */
#define BL_DISK_EROFS 1

/**
 * bl_disk_options.layout: one raw file with everything, in which there is nothing that a layer hides. Where the file
 * system can, it shares blocks with the store. The default.
 */
#define BL_DISK_LAYOUT_FLAT 0

/**
 * bl_disk_options.layout: a directory, on the store's file system. It has metadata, the layers'
 * own disks as further names of the store's files, and a VMDK descriptor. That puts them one
 * behind the other. What a layer hides is still there for whoever reads the device.
 */
#define BL_DISK_LAYOUT_MERGED 1

/**
 * bl_disk_options.flags: replace what has the destination's name, a file by a file, a directory by a directory.
 */
#define BL_DISK_FLAG_REPLACE 1

/**
 * bl_disk_options.flags: refuse a layer with any anomaly, as BL_E_MALFORMED.
 */
#define BL_DISK_FLAG_STRICT 2

/**
 * bl_disk_options.flags: leave no disks of layers in the store that are not there yet. Another image with the same layers
 * has to read these again.
 */
#define BL_DISK_FLAG_DIRECT 4

/**
 * bl_disk_options.flags: an ext4 with a journal, for guests that write.
 */
#define BL_DISK_FLAG_JOURNAL 8

/**
 * bl_disk_options.flags: an ext4 that can grow while it is mounted, to a thousand times its size.
 */
#define BL_DISK_FLAG_GROWABLE 16

/**
 * bl_disk_options.flags: hashes of all blocks behind the file system, for dm-verity. A guest that knows their root
 * (BL_DISK_TEXT_ROOT_HASH) reads nothing else. In a merged disk they are the last of its files.
 */
#define BL_DISK_FLAG_VERITY 32

/**
 * bl_disk_text(): the file to attach.
 */
#define BL_DISK_TEXT_PATH 1

/**
 * bl_disk_text(): what a VMM calls the format of that file: "raw" or "vmdk". No VMM should guess it.
 */
#define BL_DISK_TEXT_FORMAT 2

/**
 * bl_disk_text(): the file system, as mount(2) calls it: "ext4" or "erofs".
 */
#define BL_DISK_TEXT_FILE_SYSTEM 3

/**
 * bl_disk_text(): the UUID of the file system.
 */
#define BL_DISK_TEXT_UUID 4

/**
 * bl_disk_text(): a digest of everything that the disk's bytes depend on: layers, options, the version of the recipe.
 */
#define BL_DISK_TEXT_KEY 5

/**
 * bl_disk_text(): what a Linux guest is told on its command line, where the disk is its first virtio disk. NULL for a disk of
 * bl_format_disk(), which nothing can be started with.
 */
#define BL_DISK_TEXT_KERNEL_ARGS 6

/**
 * bl_disk_text(): the root of the hashes, 64 hexadecimal digits; NULL without BL_DISK_FLAG_VERITY.
 */
#define BL_DISK_TEXT_ROOT_HASH 7

/**
 * bl_disk_text(): the table for dmsetup, where the disk is the guest's first virtio disk; NULL without BL_DISK_FLAG_VERITY.
 */
#define BL_DISK_TEXT_VERITY_TABLE 8

/**
 * bl_commit_source.kind: the upper directory of an overlay, in which nobody writes any more.
 */
#define BL_COMMIT_UPPER 0

/**
 * bl_commit_source.kind: a directory with all of the image, which is compared with what the base's records say.
 */
#define BL_COMMIT_TREE 1

/**
 * bl_commit_source.kind: the archive of a layer, plain or compressed, in a file or a pipe. The image has what the base and it come to.
 */
#define BL_COMMIT_ARCHIVE 2

/**
 * bl_commit_options.flags: epoch_seconds counts, also as 0.
 */
#define BL_COMMIT_FLAG_EPOCH 1

/**
 * bl_commit_options.flags: go into other file systems that are mounted below.
 */
#define BL_COMMIT_FLAG_CROSS_FILE_SYSTEMS 2

/**
 * bl_commit_options.flags: the overlay was mounted with `userxattr`. By default that is what the root of the upper directory says or,
 * where it says nothing, so if the process may not read `trusted.overlay.*`.
 */
#define BL_COMMIT_FLAG_USERXATTR 4

/**
 * bl_commit_options.flags: read the files of a tree that look as they were, too. What has another content, and the same size and
 * time, is found.
 */
#define BL_COMMIT_FLAG_COMPARE_CONTENT 8

/**
 * bl_commit_options.compression: zstd, and gzip on a base with Docker's media types, which have no zstd.
 */
#define BL_COMPRESSION_DEFAULT 0

/**
 * bl_commit_options.compression: zstd.
 */
#define BL_COMPRESSION_ZSTD 1

/**
 * bl_commit_options.compression: gzip.
 */
#define BL_COMPRESSION_GZIP 2

/**
 * bl_commit_options.compression: none.
 */
#define BL_COMPRESSION_NONE 3

/**
 * bl_process_text(): the command and its arguments, by index.
 */
#define BL_PROCESS_ARG 1

/**
 * bl_process_text(): variables as "NAME=value", by index; with a PATH where the image has none.
 */
#define BL_PROCESS_ENV 2

/**
 * bl_process_text(): the directory to start in, absolute.
 */
#define BL_PROCESS_CWD 3

/**
 * bl_process_text(): the user's home directory; absent where the user is not in the image's /etc/passwd.
 */
#define BL_PROCESS_HOME 4

/**
 * bl_process_text(): the signal that asks it to stop, such as "SIGTERM"; absent where the image does not say.
 */
#define BL_PROCESS_STOP_SIGNAL 5

/**
 * bl_process_text(): the process object of an OCI runtime configuration (runtime-spec, config.md), in JSON.
 */
#define BL_PROCESS_RUNTIME_JSON 6

/**
 * bl_gc_options.flags: only say what would be removed.
 */
#define BL_GC_DRY_RUN 1

/**
 * bl_gc_options.flags: whatever its age.
 */
#define BL_GC_ANY_AGE 2

/**
 * bl_check_options.flags: move what is damaged to the folder quarantine, so that it is absent, and the next commit,
 * pull or extraction replaces it. A tree that is in use loses its path; what a damaged image name or lease protected may be
 * collected.
 */
#define BL_CHECK_REPAIR 1

/**
 * bl_check_options.flags: do not compare extracted trees, nor the disks that are kept.
 */
#define BL_CHECK_SKIP_TREES 2

/**
 * bl_finding.problem: the object is there, and is not what it was.
 */
#define BL_PROBLEM_DAMAGED 1

/**
 * bl_finding.problem: the object is an image name, and something that the image needs is not there.
 */
#define BL_PROBLEM_MISSING 2

/**
 * Bytes owned by the caller: a path, a digest, a document. One NUL byte follows them, so that text can be used as a C
 * string; a document or a path may contain others. Release it with bl_bytes_free().
 */
typedef struct bl_bytes bl_bytes;

/**
 * A token that ends long calls early. Any number of calls may share one; free it when they have returned. It cannot be
 * reset: take a new one.
 */
typedef struct bl_cancel bl_cancel;

/**
 * A place for a user and a password, during the callback that is asked for them.
 */
typedef struct bl_credentials bl_credentials;

/**
 * A disk that was made. It may be used by several threads at once. Freeing it leaves the disk where it is.
 */
typedef struct bl_disk bl_disk;

/**
 * Why a call failed. Owned by the caller, immutable, free of any handle; release it with bl_error_free().
 */
typedef struct bl_error bl_error;

/**
 * An image as it was when it was opened. It may be used by several threads at once.
 */
typedef struct bl_image bl_image;

/**
 * The entries of an extracted layer, one after the other.
 */
typedef struct bl_layer_entries bl_layer_entries;

/**
 * A hold on objects of a store, with a time after which it ends. It lives in the store, not in the process: freeing the
 * handle leaves it, and another process can open it by its id. It may be used by several threads at once.
 */
typedef struct bl_lease bl_lease;

/**
 * Texts owned by the caller. Release them with bl_names_free().
 */
typedef struct bl_names bl_names;

/**
 * A pull that runs by itself. Any thread may use it, several at once too, except for bl_op_free().
 */
typedef struct bl_op bl_op;

/**
 * An image's layers as the lower directories of an overlay mount. It may be used by several threads at once.
 */
typedef struct bl_overlay bl_overlay;

/**
 * An image's program, as it is to be started. It may be used by several threads at once.
 */
typedef struct bl_process bl_process;

/**
 * The layers of a pull, for bl_pull_layers_get(). Valid as long as the bl_pull_progress that has it: during a callback, or
 * until bl_op_free().
 */
typedef struct bl_pull_layers bl_pull_layers;

/**
 * A blob that is being written. Nothing of it is visible before bl_commit().
 */
typedef struct bl_staged bl_staged;

/**
 * An open image store. Any number of threads may use one at a time, and any number of processes the same directory.
 */
typedef struct bl_storage bl_storage;

/**
 * Receives one log line: its level (BL_LOG_ERROR to BL_LOG_TRACE), the text without a newline, valid during the call
 * only, and the pointer given to bl_set_log_callback(). It may come from any thread, also one of the library's, must
 * return soon, and must not call bl_set_log_callback().
 */
typedef void (*bl_log_callback)(int32_t level,
                                const char *message,
                                void *user_data);

/**
 * How to open a store. Zero in a field is its default; initialise with BL_STORAGE_OPTIONS_INIT.
 */
typedef struct bl_storage_options {
  /**
   * sizeof(bl_storage_options).
   */
  size_t struct_size;
  /**
   * BL_STORAGE_*, or 0.
   */
  uint64_t flags;
  /**
   * Largest layer blob in bytes that bl_stage_layer() takes; 0 is 50 GiB.
   */
  uint64_t max_blob_bytes;
  /**
   * BL_DURABILITY_*.
   */
  uint32_t durability;
  /**
   * Zero.
   */
  uint32_t reserved;
  /**
   * Bytes of the file system that are to stay free: a blob or an extraction that would take of them is refused with
   * BL_E_NO_SPACE.
   */
  uint64_t min_free_bytes;
  /**
   * The store is collected, as by bl_gc(), before a layer that would bring it above so many
   * bytes, or has no room. 0 is never.
   */
  uint64_t gc_above_bytes;
  /**
   * Seconds: what is younger stays in such a collection; 0 is an hour.
   */
  uint64_t gc_min_age_seconds;
} bl_storage_options;

/**
 * How to verify a layer. Zero in a field is its default; initialise with BL_VERIFY_OPTIONS_INIT.
 */
typedef struct bl_verify_options {
  /**
   * sizeof(bl_verify_options).
   */
  size_t struct_size;
  /**
   * Ends the call early; may be NULL.
   */
  bl_cancel *cancel;
  /**
   * Milliseconds after which the call ends with BL_E_TIMEOUT; 0 is never.
   */
  uint64_t timeout_ms;
} bl_verify_options;

/**
 * What one layer may cost at most. Zero in a field is its default; initialise with BL_LAYER_LIMITS_INIT. A breach is
 * BL_E_LIMIT, whose message names the limit and both values.
 */
typedef struct bl_layer_limits {
  /**
   * sizeof(bl_layer_limits).
   */
  size_t struct_size;
  /**
   * Bytes of the tar stream after decompression, and of the files together; 50 GiB.
   */
  uint64_t layer_bytes;
  /**
   * Uncompressed bytes for each compressed one, after the first 64 MiB; 1,000.
   */
  uint64_t compression_ratio;
  /**
   * Entries; 2,000,000.
   */
  uint64_t entries;
  /**
   * Bytes between two slashes of a name, without the prefix of a whiteout; 255.
   */
  uint64_t name_component_bytes;
  /**
   * Components of a name; 4,096.
   */
  uint64_t path_depth;
  /**
   * Bytes of a name or of a hard link's target; 64 KiB.
   */
  uint64_t path_bytes;
  /**
   * Bytes of PAX, GNU long-name and sparse map data before one entry; 1 MiB.
   */
  uint64_t header_metadata_bytes;
  /**
   * PAX and GNU headers before one entry; 16.
   */
  uint64_t stacked_headers;
  /**
   * Pieces of data between the holes of a sparse file; 10,000.
   */
  uint64_t sparse_chunks;
  /**
   * Bytes of a symlink's target; 4,095.
   */
  uint64_t symlink_target_bytes;
  /**
   * Symlinks followed while one parent directory is looked up; 40.
   */
  uint64_t symlink_hops;
  /**
   * Symlinks followed in the layer; 1,000,000.
   */
  uint64_t symlink_steps;
  /**
   * Directories opened on the way to the entries, above 16 for each; 2,000,000.
   */
  uint64_t directory_steps;
  /**
   * Bytes of one extended attribute; 64 KiB.
   */
  uint64_t xattr_value_bytes;
  /**
   * Extended attributes of an entry; 1,024.
   */
  uint64_t xattrs;
  /**
   * Bytes of all extended attributes of an entry; 1 MiB.
   */
  uint64_t xattrs_bytes;
  /**
   * Bytes of directories' names and attributes and of open hard links kept to the end, above 128 for each entry;
   * 64 MiB.
   */
  uint64_t kept_metadata_bytes;
  /**
   * Bytes of the metadata record; 1 GiB.
   */
  uint64_t record_bytes;
  /**
   * Binary logarithm of the largest zstd window; 27.
   */
  uint64_t zstd_window_log;
} bl_layer_limits;

/**
 * What a tree looks like and what a layer may cost; for each call that unpacks. Zero in a field is its default; initialise
 * with BL_TREE_OPTIONS_INIT.
 */
typedef struct bl_tree_options {
  /**
   * sizeof(bl_tree_options).
   */
  size_t struct_size;
  /**
   * BL_TREE_*, or 0.
   */
  uint64_t flags;
  /**
   * BL_WHITEOUTS_*: how the tree of a layer says what lower layers lose.
   */
  uint32_t whiteouts;
  /**
   * BL_LAYER_*: what an extracted layer is.
   */
  uint32_t form;
  /**
   * What a layer may cost while it is unpacked; one that is extracted already is not measured again. NULL is the
   * defaults.
   */
  const bl_layer_limits *limits;
} bl_tree_options;

/**
 * How far an extraction came.
 */
typedef struct bl_progress {
  /**
   * sizeof(bl_progress) of the library; a newer one may have more fields.
   */
  size_t struct_size;
  /**
   * Bytes of the layer's file.
   */
  uint64_t bytes_in;
  /**
   * Bytes of the uncompressed tar stream.
   */
  uint64_t bytes_out;
  /**
   * Entries.
   */
  uint64_t entries;
} bl_progress;

/**
 * Is told of progress, on the thread that made the call, with the pointer that came with it. Anything but 0 ends the
 * call with BL_E_CALLBACK.
 */
typedef int32_t (*bl_progress_callback)(const bl_progress *progress,
                                        void *user_data);

/**
 * How to extract a layer. Zero in a field is its default; initialise with BL_EXTRACT_OPTIONS_INIT.
 */
typedef struct bl_extract_options {
  /**
   * sizeof(bl_extract_options).
   */
  size_t struct_size;
  /**
   * What the tree looks like and may cost; NULL is the defaults.
   */
  const bl_tree_options *tree;
  /**
   * The layer's file, which must hash to the digest; NULL is the stored layer.
   */
  const char *tarball_path;
  /**
   * What the uncompressed layer must hash to (rootfs.diff_ids in the image's config); NULL is not to check.
   */
  const char *diff_id;
  /**
   * Ends the call early; may be NULL.
   */
  bl_cancel *cancel;
  /**
   * Milliseconds after which the call ends with BL_E_TIMEOUT; 0 is never.
   */
  uint64_t timeout_ms;
  /**
   * Is told of progress about every MiB or 256 entries, and at the end; may be NULL.
   */
  bl_progress_callback progress;
  /**
   * Handed to every call of progress.
   */
  void *progress_data;
} bl_extract_options;

/**
 * What an extraction did. Initialise with BL_EXTRACT_RESULT_INIT.
 */
typedef struct bl_extract_result {
  /**
   * sizeof(bl_extract_result); set by the caller.
   */
  size_t struct_size;
  /**
   * Entries in the layer; 0 when cached.
   */
  uint64_t entries;
  /**
   * Bytes of the layer's file; 0 when cached.
   */
  uint64_t bytes_in;
  /**
   * Bytes of the uncompressed tar stream; 0 when cached.
   */
  uint64_t bytes_out;
  /**
   * BL_ANOMALY_* bits: what was odd and yet accepted.
   */
  uint64_t anomalies;
  /**
   * 1 when the tree was there already.
   */
  uint32_t cached;
  /**
   * Zero.
   */
  uint32_t reserved;
  /**
   * Digest of the uncompressed stream as a string; "" when an older program made the cached tree.
   */
  char diff_id[BL_DIGEST_MAX];
} bl_extract_result;

/**
 * An extended attribute.
 */
typedef struct bl_xattr {
  /**
   * The full name, such as "user.mime_type".
   */
  const char *name;
  /**
   * Any bytes.
   */
  const uint8_t *value;
  /**
   * How many.
   */
  size_t value_len;
} bl_xattr;

/**
 * One path of a layer and everything that the layer says of it, however much of that the file system could be told.
 * The pointers are valid until the next bl_layer_entries_next() or bl_layer_entries_free(). Initialise with
 * BL_LAYER_ENTRY_INIT.
 */
typedef struct bl_layer_entry {
  /**
   * sizeof(bl_layer_entry); set by the caller.
   */
  size_t struct_size;
  /**
   * BL_ENTRY_* kind.
   */
  uint32_t kind;
  /**
   * BL_ENTRY_FLAG_IMPLIED, or 0.
   */
  uint32_t flags;
  /**
   * Relative to the root of the layer, without a leading slash and without symlinks in it, any bytes but NUL; "" for
   * the root. For BL_ENTRY_WHITEOUT the path that is gone, for BL_ENTRY_OPAQUE the directory.
   */
  const char *path;
  /**
   * Target of a symlink as written, of a hard link as a path like the one above; "" for the rest.
   */
  const char *link;
  /**
   * Permission, set-id and sticky bits: at most 07777.
   */
  uint32_t mode;
  /**
   * Owner.
   */
  uint32_t uid;
  /**
   * Group.
   */
  uint32_t gid;
  /**
   * Nanoseconds after mtime_seconds.
   */
  uint32_t mtime_nanoseconds;
  /**
   * Seconds since 1970 of the last modification.
   */
  int64_t mtime_seconds;
  /**
   * Bytes of a file.
   */
  uint64_t size_bytes;
  /**
   * Major number of a device.
   */
  uint32_t device_major;
  /**
   * Minor number of a device.
   */
  uint32_t device_minor;
  /**
   * Extended attributes, xattr_count of them; NULL for none.
   */
  const bl_xattr *xattrs;
  /**
   * How many extended attributes there are.
   */
  size_t xattr_count;
} bl_layer_entry;

/**
 * A layer of an image. The pointers are valid until bl_image_free(). Initialise with BL_IMAGE_LAYER_INFO_INIT.
 */
typedef struct bl_image_layer_info {
  /**
   * sizeof(bl_image_layer_info); set by the caller.
   */
  size_t struct_size;
  /**
   * The digest, by which it is stored and extracted.
   */
  const char *digest;
  /**
   * The digest of its uncompressed bytes, for bl_extract_options.diff_id; NULL where the config does not say it.
   */
  const char *diff_id;
  /**
   * The media type as the manifest has it; "" for none.
   */
  const char *media_type;
  /**
   * Bytes, as it is stored.
   */
  uint64_t size_bytes;
} bl_image_layer_info;

/**
 * Times and sizes of an image. Initialise with BL_IMAGE_USAGE_INIT.
 */
typedef struct bl_image_usage {
  /**
   * sizeof(bl_image_usage); set by the caller.
   */
  size_t struct_size;
  /**
   * When the name was given to the image, in seconds since 1970; 0 where it was opened by digest.
   */
  int64_t tagged_seconds;
  /**
   * When the image was last opened by this name before now, in seconds since 1970; 0 where it was opened by digest.
   */
  int64_t last_used_seconds;
  /**
   * Bytes of its config and layers as they are stored, each counted once.
   */
  uint64_t compressed_bytes;
  /**
   * Bytes of the files in those of its layers that are extracted with default options, and of the disks of others.
   */
  uint64_t extracted_bytes;
  /**
   * The part of compressed_bytes that other images with a name use too.
   */
  uint64_t shared_bytes;
  /**
   * The rest of compressed_bytes.
   */
  uint64_t unique_bytes;
} bl_image_usage;

/**
 * How far one layer came. Initialise with BL_LAYER_PROGRESS_INIT.
 */
typedef struct bl_layer_progress {
  /**
   * sizeof(bl_layer_progress).
   */
  size_t struct_size;
  /**
   * 1 when it is stored, and unpacked where that was asked for; else 0.
   */
  uint32_t is_done;
  /**
   * 0.
   */
  uint32_t reserved;
  /**
   * Its size, compressed.
   */
  uint64_t bytes;
  /**
   * Bytes of it that are in the store, those that arrived just now too.
   */
  uint64_t bytes_stored;
  /**
   * Uncompressed bytes that were unpacked.
   */
  uint64_t bytes_unpacked;
  /**
   * Its digest, as a string.
   */
  char digest[BL_DIGEST_MAX];
} bl_layer_progress;

/**
 * Is asked for the credentials for a repository on a registry ("docker.io", "localhost:5000") or mirror. It is
 * called on the thread of the pull, once for each host that may be asked, before the first request. It is not called
 * for the registry where bl_pull_options has a user, nor where the image is in the store already. It answers by
 * bl_credentials_set(), or not at all. Anything but 0 ends the pull with BL_E_CALLBACK. All arguments are valid
 * until it returns.
 */
typedef int32_t (*bl_credentials_callback)(const char *host,
                                           const char *repository,
                                           bl_credentials *answer,
                                           void *user_data);

/**
 * What is special about one registry, or about one mirror. Initialise with BL_REGISTRY_OPTIONS_INIT.
 */
typedef struct bl_registry_options {
  /**
   * sizeof(bl_registry_options).
   */
  size_t struct_size;
  /**
   * BL_REGISTRY_* flags.
   */
  uint64_t flags;
  /**
   * Which one, as in references: "ghcr.io", "localhost:5000".
   */
  const char *host;
  /**
   * File of certificate authorities (PEM) that are believed beside the system's; may be NULL.
   */
  const char *ca_file;
  /**
   * File of our certificate (PEM); may be NULL.
   */
  const char *client_certificate;
  /**
   * File of its key (PEM); NULL where that is in the file of the certificate.
   */
  const char *client_key;
  /**
   * "Name: value", for each request to it and to nobody else; the last one is NULL. May be NULL.
   */
  const char *const *headers;
  /**
   * Who is asked before it, where it is the registry of the reference, in this order:
   * "https://mirror.example:5000/path", or "http://"; the last one is NULL. May be NULL.
   */
  const char *const *mirrors;
} bl_registry_options;

/**
 * How far a pull came. Initialise with BL_PULL_PROGRESS_INIT for bl_op_progress().
 */
typedef struct bl_pull_progress {
  /**
   * sizeof(bl_pull_progress); in a callback that of the library.
   */
  size_t struct_size;
  /**
   * BL_PULL_PHASE_RESOLVING, BL_PULL_PHASE_FETCHING or BL_PULL_PHASE_DONE.
   */
  uint32_t phase;
  /**
   * 0.
   */
  uint32_t reserved;
  /**
   * Layers of the image, each counted once; 0 before they are known, and where nothing was to be fetched.
   */
  uint64_t layers;
  /**
   * Layers that are stored, and unpacked where that was asked for.
   */
  uint64_t layers_done;
  /**
   * Bytes of the layers that were not in the store.
   */
  uint64_t bytes_to_fetch;
  /**
   * Bytes of them that arrived.
   */
  uint64_t bytes_fetched;
  /**
   * Bytes of the layers that were in the store before.
   */
  uint64_t bytes_present;
  /**
   * Uncompressed bytes that were unpacked.
   */
  uint64_t bytes_unpacked;
  /**
   * Entries that were unpacked.
   */
  uint64_t entries_unpacked;
  /**
   * Each layer by itself, in the image's order.
   */
  const bl_pull_layers *each_layer;
} bl_pull_progress;

/**
 * Is told how far a pull came, on the thread that called. It is called when the pull begins to ask
 * the registry, then every bl_pull_options.progress_interval_ms, and when it is done. The struct
 * is valid until it returns. Anything but 0 ends the pull with BL_E_CALLBACK.
 */
typedef int32_t (*bl_pull_progress_callback)(const bl_pull_progress *progress,
                                             void *user_data);

/**
 * How to pull. Zero in a field is its default; initialise with BL_PULL_OPTIONS_INIT.
 */
typedef struct bl_pull_options {
  /**
   * sizeof(bl_pull_options).
   */
  size_t struct_size;
  /**
   * BL_PULL_* flags.
   */
  uint64_t flags;
  /**
   * BL_PULL_POLICY_MISSING, BL_PULL_POLICY_ALWAYS, BL_PULL_POLICY_NEWER or BL_PULL_POLICY_NEVER.
   */
  uint32_t policy;
  /**
   * Layers at a time; 0 is 4.
   */
  uint32_t parallel;
  /**
   * `os/architecture[/variant]`; NULL is Linux on this host's processor, or what the store has under the name.
   */
  const char *platform;
  /**
   * For the registry, and for no mirror nor what a hosts.toml puts in its place; NULL is anonymous, unless one of the
   * following knows somebody.
   */
  const char *user;
  /**
   * The user's password or access token; an identity token where the user is "<token>". Never logged, never in an
   * error, sent to the registry and its token server.
   */
  const char *password;
  /**
   * Is asked for credentials, of mirrors too; may be NULL.
   */
  bl_credentials_callback credentials;
  /**
   * Handed to every call of credentials.
   */
  void *credentials_data;
  /**
   * A file of credentials (containers-auth.json(5), or Docker's config.json), instead of those of BL_PULL_AUTH_FILES; the
   * helpers that it names are run, unless BL_PULL_NO_CREDENTIAL_HELPERS. May be NULL.
   */
  const char *auth_file;
  /**
   * What is special about single registries and mirrors, one for each; the last one is NULL. May be NULL.
   */
  const bl_registry_options *const *registries;
  /**
   * A folder of `<registry>/hosts.toml`, as containerd's certs.d; may be NULL.
   */
  const char *hosts_dir;
  /**
   * A proxy for all requests, "http://host:port"; may be NULL.
   */
  const char *proxy;
  /**
   * What the trees look like, and what a layer may cost; NULL is the defaults.
   */
  const bl_tree_options *tree;
  /**
   * What registries are told of the client; NULL is the library's name and version.
   */
  const char *user_agent;
  /**
   * Most bytes of the image's layers together, compressed; 0 is no limit but the store's for each blob.
   */
  uint64_t max_bytes;
  /**
   * Milliseconds for a connection to come about; 0 is 10 s.
   */
  uint64_t connect_timeout_ms;
  /**
   * Milliseconds for which a server may be silent; 0 is 30 s.
   */
  uint64_t stall_timeout_ms;
  /**
   * Ends the call early; may be NULL.
   */
  bl_cancel *cancel;
  /**
   * Milliseconds after which the call ends with BL_E_TIMEOUT; 0 is never.
   */
  uint64_t timeout_ms;
  /**
   * Is told of progress; may be NULL.
   */
  bl_pull_progress_callback progress;
  /**
   * Handed to every call of progress.
   */
  void *progress_data;
  /**
   * Milliseconds between two of them; 0 is 100.
   */
  uint64_t progress_interval_ms;
} bl_pull_options;

/**
 * How to import images. Zero in a field is its default; initialise with BL_IMPORT_OPTIONS_INIT.
 */
typedef struct bl_import_options {
  /**
   * sizeof(bl_import_options).
   */
  size_t struct_size;
  /**
   * BL_IMPORT_*, or 0.
   */
  uint64_t flags;
  /**
   * Only the image of this name, tag or digest, as the archive has it; NULL is all of them.
   */
  const char *select;
  /**
   * A reference to give it instead of its own ("app:1" is "docker.io/library/app:1"); only where there is one image. NULL: the
   * names that the archive has.
   */
  const char *name;
  /**
   * "linux/arm64/v8": which of the images of an index; NULL is this machine's.
   */
  const char *platform;
  /**
   * What the trees look like, and what each layer, and the archive, may cost; NULL is the defaults.
   */
  const bl_tree_options *tree;
  /**
   * Ends the call early; may be NULL.
   */
  bl_cancel *cancel;
  /**
   * Milliseconds after which the call ends with BL_E_TIMEOUT; 0 is never.
   */
  uint64_t timeout_ms;
  /**
   * Is told how far reading came; may be NULL.
   */
  bl_progress_callback progress;
  /**
   * Handed to every call of progress.
   */
  void *progress_data;
} bl_import_options;

/**
 * How to export images. Zero in a field is its default; initialise with BL_EXPORT_OPTIONS_INIT.
 */
typedef struct bl_export_options {
  /**
   * sizeof(bl_export_options).
   */
  size_t struct_size;
  /**
   * BL_EXPORT_*, or 0.
   */
  uint64_t flags;
  /**
   * Ends the call early; may be NULL.
   */
  bl_cancel *cancel;
  /**
   * Milliseconds after which the call ends with BL_E_TIMEOUT; 0 is never.
   */
  uint64_t timeout_ms;
  /**
   * Is told how many bytes went out; may be NULL.
   */
  bl_progress_callback progress;
  /**
   * Handed to every call of progress.
   */
  void *progress_data;
} bl_export_options;

/**
 * How to assemble a root file system. Zero in a field is its default; initialise with BL_ROOTFS_OPTIONS_INIT.
 */
typedef struct bl_rootfs_options {
  /**
   * sizeof(bl_rootfs_options).
   */
  size_t struct_size;
  /**
   * BL_ROOTFS_REPLACE, BL_ROOTFS_INTO_EXISTING, or 0.
   */
  uint64_t flags;
  /**
   * BL_ROOTFS_MODE_COPY and so on: how files come into it.
   */
  uint32_t mode;
  /**
   * Zero.
   */
  uint32_t reserved;
  /**
   * How devices and owners are said in it, and what each layer may cost. Its whiteouts say which extracted layers are used,
   * and made where they are missing: what comes out has none. NULL is the defaults.
   */
  const bl_tree_options *tree;
  /**
   * Where the metadata record of the whole tree goes (mtree(5)), replacing a file that is there; what is no file is
   * BL_E_EXISTS. NULL: for an ordinary user beside the destination, with the suffix ".mtree"; for root, who can set
   * everything, nowhere.
   */
  const char *record_path;
  /**
   * Ends the call early; may be NULL.
   */
  bl_cancel *cancel;
  /**
   * Milliseconds after which the call ends with BL_E_TIMEOUT; 0 is never.
   */
  uint64_t timeout_ms;
  /**
   * Is told of progress: entries of all layers so far, and bytes_out of the present one. Of a
   * layer that is extracted already, bytes_in is 0. May be NULL.
   */
  bl_progress_callback progress;
  /**
   * Handed to every call of progress.
   */
  void *progress_data;
} bl_rootfs_options;

/**
 * What an assembly did. Initialise with BL_ROOTFS_RESULT_INIT.
 */
typedef struct bl_rootfs_result {
  /**
   * sizeof(bl_rootfs_result); set by the caller.
   */
  size_t struct_size;
  /**
   * Layers of the image.
   */
  uint64_t layers;
  /**
   * Entries of all layers.
   */
  uint64_t entries;
  /**
   * BL_ANOMALY_* bits: what was odd and yet accepted.
   */
  uint64_t anomalies;
} bl_rootfs_result;

/**
 * Something that a disk has on top of its image. Directories on the way to it are made where they are missing. Initialise with
 * BL_DISK_FILE_INIT.
 */
typedef struct bl_disk_file {
  /**
   * sizeof(bl_disk_file).
   */
  size_t struct_size;
  /**
   * BL_DISK_FILE_*.
   */
  uint32_t kind;
  /**
   * Permission, set-id and sticky bits; 0 is 0644, and 0755 of a directory.
   */
  uint32_t mode;
  /**
   * Its owner.
   */
  uint32_t uid;
  /**
   * Its group.
   */
  uint32_t gid;
  /**
   * When it was modified, in seconds since 1970.
   */
  uint64_t mtime_seconds;
  /**
   * Where in the image. It leads through the image's symlinks and never out; `..` is refused.
   */
  const char *path;
  /**
   * A regular file of the host's whose content it gets; NULL is to take data. Only for BL_DISK_FILE_REGULAR.
   */
  const char *source;
  /**
   * The content; may be NULL where there is none.
   */
  const void *data;
  /**
   * Length of data.
   */
  size_t data_len;
  /**
   * Where a symlink leads to; NULL for anything else.
   */
  const char *target;
} bl_disk_file;

/**
 * What disk it is to be. Zero in a field is its default; initialise with BL_DISK_OPTIONS_INIT.
 */
typedef struct bl_disk_options {
  /**
   * sizeof(bl_disk_options).
   */
  size_t struct_size;
  /**
   * BL_DISK_FLAG_*, or 0.
   */
  uint64_t flags;
  /**
   * BL_DISK_EXT4 or BL_DISK_EROFS.
   */
  uint32_t format;
  /**
   * BL_DISK_LAYOUT_*: what it is made of. ext4 has one layout.
   */
  uint32_t layout;
  /**
   * Bytes of an ext4; 0 is what it needs, and free_bytes. BL_E_NO_SPACE says how many it takes, where these are too few.
   */
  uint64_t size_bytes;
  /**
   * Bytes of an ext4 that are to be free. They are a part of size_bytes, where that is not 0.
   */
  uint64_t free_bytes;
  /**
   * Inodes of an ext4 that are to be free. One that has free room has one for each 16 KiB at least.
   */
  uint64_t free_inodes;
  /**
   * Bytes of the journal with BL_DISK_FLAG_JOURNAL, 4,194,304 to 41,943,040,000; 0 is as many as mke2fs takes.
   */
  uint64_t journal_bytes;
  /**
   * An archive of the host's, packed or not, that goes on top of the image as a layer would; may be NULL.
   */
  const char *top_layer_path;
  /**
   * What goes on top of that, each taking the place of those before it; ends with NULL, and may be NULL. It becomes a layer,
   * whose disk the store has once, whichever images it goes on.
   */
  const bl_disk_file *const *files;
  /**
   * The label of the file system, at most 16 bytes in ext4 and 15 in EROFS; NULL is none.
   */
  const char *label;
  /**
   * The UUID of the file system, as text; NULL is one that is made of the layers and the options.
   */
  const char *uuid;
  /**
   * What was modified later than this, in seconds since 1970, has this time; 0 is not to change any.
   */
  int64_t max_mtime_seconds;
  /**
   * Seconds for which bl_keep_disk() has the disk held; 0 is a day.
   */
  uint64_t lease_seconds;
  /**
   * What each layer may cost. NULL is the defaults.
   */
  const bl_layer_limits *limits;
  /**
   * Ends the call early; may be NULL.
   */
  bl_cancel *cancel;
  /**
   * Milliseconds after which the call ends with BL_E_TIMEOUT; 0 is never.
   */
  uint64_t timeout_ms;
  /**
   * Is told of progress. First of each layer that has no disk yet, while that is made. Then of
   * all layers, while they are put on top of each other. May be NULL.
   */
  bl_progress_callback progress;
  /**
   * Handed to every call of progress.
   */
  void *progress_data;
} bl_disk_options;

/**
 * What a disk came to. Initialise with BL_DISK_INFO_INIT.
 */
typedef struct bl_disk_info {
  /**
   * sizeof(bl_disk_info); set by the caller.
   */
  size_t struct_size;
  /**
   * Bytes of the device that a guest sees.
   */
  uint64_t size_bytes;
  /**
   * Bytes that its files take in their file system, when it was made; what they share with others counts too.
   */
  uint64_t allocated_bytes;
  /**
   * Entries of all layers.
   */
  uint64_t entries;
  /**
   * BL_ANOMALY_* bits: what was odd and yet accepted.
   */
  uint64_t anomalies;
  /**
   * How many files it has, for bl_disk_get_part().
   */
  uint64_t parts;
  /**
   * 1 when the store kept it already.
   */
  uint32_t cached;
  /**
   * Zero.
   */
  uint32_t reserved;
} bl_disk_info;

/**
 * A file that is a part of a disk, or all of it. Initialise with BL_DISK_PART_INIT.
 */
typedef struct bl_disk_part {
  /**
   * sizeof(bl_disk_part); set by the caller.
   */
  size_t struct_size;
  /**
   * The file. Valid until bl_disk_free().
   */
  const char *path;
  /**
   * Where on the device it begins, in bytes.
   */
  uint64_t offset_bytes;
  /**
   * Bytes of the device that it has, from the beginning of the file on.
   */
  uint64_t length_bytes;
} bl_disk_part;

/**
 * What was changed. Initialise with BL_COMMIT_SOURCE_INIT.
 */
typedef struct bl_commit_source {
  /**
   * sizeof(bl_commit_source).
   */
  size_t struct_size;
  /**
   * BL_COMMIT_*.
   */
  uint32_t kind;
  /**
   * Zero.
   */
  uint32_t reserved;
  /**
   * The directory, or the archive; "/dev/stdin" and "/dev/fd/N" are pipes that are open already.
   */
  const char *path;
} bl_commit_source;

/**
 * What of a config is to be another than the base's. NULL, or a list that ends at once, leaves it. Initialise with
 * BL_CONFIG_CHANGES_INIT.
 */
typedef struct bl_config_changes {
  /**
   * sizeof(bl_config_changes).
   */
  size_t struct_size;
  /**
   * The command's first words; ends with NULL. A list without words is none.
   */
  const char *const *entrypoint;
  /**
   * The arguments; ends with NULL. A list without words is none.
   */
  const char *const *cmd;
  /**
   * Variables as "NAME=value", in place of those of the same name; ends with NULL.
   */
  const char *const *env;
  /**
   * Names of variables that go; ends with NULL.
   */
  const char *const *unset_env;
  /**
   * The directory to start in.
   */
  const char *working_dir;
  /**
   * "user", "uid", "user:group" or "uid:gid".
   */
  const char *user;
  /**
   * Labels as "key=value", in place of those of the same key; ends with NULL.
   */
  const char *const *labels;
  /**
   * Keys of labels that go; ends with NULL.
   */
  const char *const *unset_labels;
  /**
   * Further ports, as "8080/tcp"; ends with NULL.
   */
  const char *const *exposed_ports;
  /**
   * Further directories with data of their own; ends with NULL.
   */
  const char *const *volumes;
  /**
   * The signal that asks it to stop.
   */
  const char *stop_signal;
} bl_config_changes;

/**
 * What became of a source. Initialise with BL_COMMIT_COUNTS_INIT.
 */
typedef struct bl_commit_counts {
  /**
   * sizeof(bl_commit_counts); set by the caller.
   */
  size_t struct_size;
  /**
   * Entries of the new layer.
   */
  uint64_t entries;
  /**
   * Sockets that were left out.
   */
  uint64_t sockets;
  /**
   * Directories on which another file system is mounted. What is there is left out.
   */
  uint64_t other_file_systems;
} bl_commit_counts;

/**
 * How to make an image of another one. Zero in a field is its default; initialise with BL_COMMIT_OPTIONS_INIT.
 */
typedef struct bl_commit_options {
  /**
   * sizeof(bl_commit_options).
   */
  size_t struct_size;
  /**
   * BL_COMMIT_FLAG_*, or 0.
   */
  uint64_t flags;
  /**
   * A reference to call it by ("app:1" is "docker.io/library/app:1"). NULL is no name: then a collection may take it, unless a
   * lease holds it.
   */
  const char *name;
  /**
   * BL_COMPRESSION_*.
   */
  uint32_t compression;
  /**
   * How hard it tries: zstd 1 to 19, gzip 1 to 9; 0 is 3 for zstd, and 6 for gzip.
   */
  int32_t level;
  /**
   * With BL_COMMIT_FLAG_EPOCH: when it was made, in seconds since 1970, and the latest time of any file. The same changes are the
   * same image then.
   */
  int64_t epoch_seconds;
  /**
   * Who made it; may be NULL.
   */
  const char *author;
  /**
   * What was done, for the history; may be NULL.
   */
  const char *message;
  /**
   * By what, for the history; may be NULL.
   */
  const char *created_by;
  /**
   * What the config says otherwise; may be NULL.
   */
  const bl_config_changes *changes;
  /**
   * What the manifest says besides, as "key=value"; ends with NULL, and may be NULL.
   */
  const char *const *annotations;
  /**
   * Is set to what became of the source; may be NULL.
   */
  bl_commit_counts *counts;
  /**
   * The new layer is extracted too, in this form, so that what is started next need not wait for that. Its files share the
   * source's blocks where both are on one file system that can do that (XFS, btrfs). Elsewhere, and for a disk, the packed layer
   * is unpacked. Its limits do not count: those of this struct do. NULL: it is not extracted. bl_edit_image() makes no layer.
   */
  const bl_tree_options *extract;
  /**
   * What the layer may cost. NULL is the defaults.
   */
  const bl_layer_limits *limits;
  /**
   * Ends the call early; may be NULL.
   */
  bl_cancel *cancel;
  /**
   * Milliseconds after which the call ends with BL_E_TIMEOUT; 0 is never.
   */
  uint64_t timeout_ms;
  /**
   * Is told how many entries and bytes were written; may be NULL.
   */
  bl_progress_callback progress;
  /**
   * Handed to every call of progress.
   */
  void *progress_data;
} bl_commit_options;

/**
 * What kind of overlay mount it is to be. Zero in a field is its default; initialise with BL_OVERLAY_OPTIONS_INIT.
 */
typedef struct bl_overlay_options {
  /**
   * sizeof(bl_overlay_options).
   */
  size_t struct_size;
  /**
   * What the directories look like, and what each layer may cost. Its whiteouts are
   * BL_WHITEOUTS_USER_OVERLAY for a mount with userxattr, as in a user namespace. Anything else
   * is BL_WHITEOUTS_OVERLAY, whose directories only root can make and mount. NULL is the
   * defaults.
   */
  const bl_tree_options *tree;
  /**
   * Seconds for which the layers are held; 0 is a day.
   */
  uint64_t lease_seconds;
  /**
   * Ends the call early; may be NULL.
   */
  bl_cancel *cancel;
  /**
   * Milliseconds after which the call ends with BL_E_TIMEOUT; 0 is never.
   */
  uint64_t timeout_ms;
  /**
   * Is told of progress, layer by layer; may be NULL.
   */
  bl_progress_callback progress;
  /**
   * Handed to every call of progress.
   */
  void *progress_data;
} bl_overlay_options;

/**
 * Who a program runs as, by numbers. The pointer is valid until bl_process_free(). Initialise with
 * BL_PROCESS_USER_INIT.
 */
typedef struct bl_process_user {
  /**
   * sizeof(bl_process_user); set by the caller.
   */
  size_t struct_size;
  /**
   * User.
   */
  uint32_t uid;
  /**
   * Group.
   */
  uint32_t gid;
  /**
   * Further groups; NULL where there are none.
   */
  const uint32_t *additional_gids;
  /**
   * How many those are.
   */
  size_t additional_gid_count;
} bl_process_user;

/**
 * After the collection, is told of an object that was removed, or would be: `layers/sha256-<hex>.tar.gz`. Runs on the thread that called.
 */
typedef void (*bl_gc_callback)(const char *object,
                               void *user_data);

/**
 * What to collect. Zero in a field is its default; initialise with BL_GC_OPTIONS_INIT.
 */
typedef struct bl_gc_options {
  /**
   * sizeof(bl_gc_options).
   */
  size_t struct_size;
  /**
   * BL_GC_* flags.
   */
  uint64_t flags;
  /**
   * What was stored so many seconds ago, or less, stays, because it may get its name next; 0 is an hour.
   */
  uint64_t min_age_seconds;
  /**
   * Disks that bl_keep_disk() was not asked for in so many seconds go too, although their layers stay; 0 is to keep them. A
   * lease holds a disk all the same.
   */
  uint64_t max_disk_idle_seconds;
  /**
   * Ends the call early; may be NULL.
   */
  bl_cancel *cancel;
  /**
   * Milliseconds after which the call ends with BL_E_TIMEOUT; 0 is never.
   */
  uint64_t timeout_ms;
  /**
   * Is told of each object; may be NULL.
   */
  bl_gc_callback on_removed;
  /**
   * Handed to every call of on_removed.
   */
  void *on_removed_data;
} bl_gc_options;

/**
 * What bl_gc() did. Initialise with BL_GC_RESULT_INIT.
 */
typedef struct bl_gc_result {
  /**
   * sizeof(bl_gc_result); set by the caller.
   */
  size_t struct_size;
  /**
   * Objects that were removed, or would be.
   */
  uint64_t removed;
  /**
   * Their bytes.
   */
  uint64_t bytes;
  /**
   * Objects that nothing reaches and that stayed, because they are young or in use.
   */
  uint64_t kept;
} bl_gc_result;

/**
 * Something that is not as it should be. Valid during the callback.
 */
typedef struct bl_finding {
  /**
   * sizeof(bl_finding) of the library: what follows a known field may be more than this header has.
   */
  size_t struct_size;
  /**
   * The object, by its place in the store: `layers/sha256-<hex>.tar.gz`.
   */
  const char *object;
  /**
   * One line for a reader.
   */
  const char *message;
  /**
   * BL_PROBLEM_*; treat one that you do not know as damage.
   */
  uint32_t problem;
  /**
   * 1 where it was moved to the folder quarantine.
   */
  uint32_t quarantined;
} bl_finding;

/**
 * After the check, also one that ended early, is told of each finding. Runs on the thread that called.
 */
typedef void (*bl_check_callback)(const bl_finding *finding,
                                  void *user_data);

/**
 * What to check. Zero in a field is its default; initialise with BL_CHECK_OPTIONS_INIT.
 */
typedef struct bl_check_options {
  /**
   * sizeof(bl_check_options).
   */
  size_t struct_size;
  /**
   * BL_CHECK_* flags.
   */
  uint64_t flags;
  /**
   * Read no faster than this; 0 is as fast as it goes.
   */
  uint64_t bytes_per_second;
  /**
   * Ends the call early; may be NULL.
   */
  bl_cancel *cancel;
  /**
   * Milliseconds after which the call ends with BL_E_TIMEOUT; 0 is never.
   */
  uint64_t timeout_ms;
  /**
   * Is told of each finding; may be NULL.
   */
  bl_check_callback on_finding;
  /**
   * For the callback.
   */
  void *on_finding_data;
} bl_check_options;

/**
 * What bl_check() found. Initialise with BL_CHECK_RESULT_INIT.
 */
typedef struct bl_check_result {
  /**
   * sizeof(bl_check_result); set by the caller.
   */
  size_t struct_size;
  /**
   * Objects that were looked at: blobs, trees, disks, names, leases.
   */
  uint64_t objects;
  /**
   * Bytes that were read of them.
   */
  uint64_t bytes;
  /**
   * Trees and disks that could not be compared. Trees are of boxlite 0.9, were not flushed before a start of the machine,
   * or have directories that this user may not enter. Of disks, the layers have none of their own any more.
   */
  uint64_t skipped;
  /**
   * Objects that are not what they were.
   */
  uint64_t damaged;
  /**
   * Image names that lead to something that is not there.
   */
  uint64_t missing;
  /**
   * Damaged objects that were moved away.
   */
  uint64_t quarantined;
} bl_check_result;

/**
 * What bl_disk_usage() found, in objects and in bytes. Initialise with BL_DISK_USAGE_RESULT_INIT.
 */
typedef struct bl_disk_usage_result {
  /**
   * sizeof(bl_disk_usage_result); set by the caller.
   */
  size_t struct_size;
  /**
   * Manifests and indexes.
   */
  uint64_t manifests;
  /**
   * Sizes of their files.
   */
  uint64_t manifest_bytes;
  /**
   * Image configs.
   */
  uint64_t configs;
  /**
   * Sizes of their files.
   */
  uint64_t config_bytes;
  /**
   * Layer blobs.
   */
  uint64_t layers;
  /**
   * Sizes of their files.
   */
  uint64_t layer_bytes;
  /**
   * Extracted trees.
   */
  uint64_t trees;
  /**
   * Sizes of all files in them, by their metadata records, and of the records.
   */
  uint64_t tree_bytes;
  /**
   * Disks of images, by bl_keep_disk().
   */
  uint64_t disks;
  /**
   * Sizes of their files, but for those of layers' disks, which count as trees.
   */
  uint64_t disk_bytes;
  /**
   * Downloads and extractions that are under way or broke off, and what is about to be deleted.
   */
  uint64_t partials;
  /**
   * Sizes of those that are files, with the room that is reserved for what they do not hold yet.
   */
  uint64_t partial_bytes;
  /**
   * What bl_check() moved away.
   */
  uint64_t quarantined;
  /**
   * Sizes of those that are files.
   */
  uint64_t quarantined_bytes;
  /**
   * Bytes that this process may still write to the file system.
   */
  uint64_t free_bytes;
  /**
   * Bytes of the file system.
   */
  uint64_t total_bytes;
} bl_disk_usage_result;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of the library that is loaded, "0.1.0"; BL_VERSION_STRING is the one that was compiled against.
 *
 * @return a static string.
 *
 * @since 0.1.0
 */
const char *bl_version_string(void);

/**
 * The version of the library that is loaded as a number that grows: major * 1000000 + minor * 1000 + patch, as in
 * BL_VERSION_NUMBER.
 *
 * @since 0.1.0
 */
uint32_t bl_version_number(void);

/**
 * Whether the library that is loaded was built with a feature.
 *
 * @param feature BL_FEATURE_PULL and so on.
 *
 * @return false also for a feature that this version does not know.
 *
 * @since 0.1.0
 */
bool bl_has_feature(uint32_t feature);

/**
 * The name of a status: "OK", "DIGEST_MISMATCH"; "UNKNOWN" for a number that this version does not define.
 *
 * @return a static string, never NULL.
 *
 * @since 0.1.0
 */
const char *bl_status_name(bl_status status);

/**
 * The error's status, the same that the failed call returned; BL_OK for NULL.
 *
 * @since 0.1.0
 */
bl_status bl_error_status(const bl_error *error);

/**
 * One line that names the object, says what went wrong and gives the whole cause. For people; not to be parsed.
 *
 * @return a string that lives as long as the error; "" for NULL.
 *
 * @since 0.1.0
 */
const char *bl_error_message(const bl_error *error);

/**
 * The operating system's error number (errno) where one was the cause, else 0; also 0 for failures of the network.
 *
 * @since 0.1.0
 */
int bl_error_os_errno(const bl_error *error);

/**
 * The HTTP status where a registry's answer was the cause, else 0.
 *
 * @since 0.1.0
 */
int bl_error_http_status(const bl_error *error);

/**
 * The registry's own error code ("MANIFEST_UNKNOWN") where it gave one, else "".
 *
 * @return a string that lives as long as the error.
 *
 * @since 0.1.0
 */
const char *bl_error_registry_code(const bl_error *error);

/**
 * The digest that the bytes were to have, for BL_E_DIGEST_MISMATCH, else "".
 *
 * @return a string that lives as long as the error.
 *
 * @since 0.1.0
 */
const char *bl_error_expected_digest(const bl_error *error);

/**
 * The digest that the bytes have, for BL_E_DIGEST_MISMATCH, else "".
 *
 * @return a string that lives as long as the error.
 *
 * @since 0.1.0
 */
const char *bl_error_actual_digest(const bl_error *error);

/**
 * Whether the same call may succeed later, without a change to its arguments.
 *
 * @since 0.1.0
 */
bool bl_error_retryable(const bl_error *error);

/**
 * Frees an error. NULL is a no-op.
 *
 * @since 0.1.0
 */
void bl_error_free(bl_error *error);

/**
 * The bytes. Valid until bl_bytes_free().
 *
 * @return never NULL; "" for NULL.
 *
 * @since 0.1.0
 */
const uint8_t *bl_bytes_data(const bl_bytes *bytes);

/**
 * The same bytes as a C string, for text and paths.
 *
 * @return never NULL; "" for NULL.
 *
 * @since 0.1.0
 */
const char *bl_bytes_str(const bl_bytes *bytes);

/**
 * How many bytes there are, without the NUL that follows; 0 for NULL.
 *
 * @since 0.1.0
 */
size_t bl_bytes_len(const bl_bytes *bytes);

/**
 * Frees the bytes. NULL is a no-op.
 *
 * @since 0.1.0
 */
void bl_bytes_free(bl_bytes *bytes);

/**
 * Makes a token that has not been triggered.
 *
 * @retval BL_OK
 * @retval BL_E_INVALID_ARGUMENT an argument that cannot be
 *
 * Ownership: release *out with bl_cancel_free().
 *
 * @since 0.1.0
 */
bl_status bl_cancel_new(bl_cancel **out,
                        bl_error **err);

/**
 * Ends every call that has this token, running or to come, with BL_E_CANCELLED within 100 ms. Safe in a signal handler
 * and from any thread. NULL is a no-op.
 *
 * @since 0.1.0
 */
void bl_cancel_trigger(bl_cancel *cancel);

/**
 * Whether the token was triggered; false for NULL.
 *
 * @since 0.1.0
 */
bool bl_cancel_is_triggered(const bl_cancel *cancel);

/**
 * Frees a token. NULL is a no-op.
 *
 * @since 0.1.0
 */
void bl_cancel_free(bl_cancel *cancel);

/**
 * Sets where log lines go, for the whole process; without a callback, which is how the library begins, or with
 * BL_LOG_OFF they go nowhere. Once this returns, the callback set before is not running and will not be called again.
 *
 * @param level the least important level that is wanted, BL_LOG_ERROR to BL_LOG_TRACE.
 * @param callback_data handed to every call of the callback.
 *
 * @retval BL_OK
 * @retval BL_E_INVALID_ARGUMENT for an unknown level
 * @retval BL_E_STATE in a Rust program that has set up `tracing` itself, whose subscriber has the lines then
 *
 * @since 0.1.0
 */
bl_status bl_set_log_callback(int32_t level,
                              bl_log_callback callback,
                              void *callback_data,
                              bl_error **err);

/**
 * Opens the store in a directory. The directory and its folders are created where they are
 * missing. What processes left there that died in the middle of something is removed.
 *
 * @param images_dir any path; it is resolved once, here.
 * @param options NULL for the defaults.
 *
 * @retval BL_OK
 * @retval BL_E_UNSUPPORTED for a store of a newer format, an unknown option, or a file system where file locks do not
 *   work
 * @retval BL_E_NOT_FOUND for a missing directory when read-only
 * @retval BL_E_PERMISSION the system, or a read-only store, refuses
 * @retval BL_E_NO_SPACE the disk is full
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * Ownership: release *out with bl_storage_close().
 * Cost: a few directory reads; syncs when it creates something.
 *
 * @since 0.1.0
 */
bl_status bl_storage_open(const char *images_dir,
                          const bl_storage_options *options,
                          bl_storage **out,
                          bl_error **err);

/**
 * Frees the handle. Staged downloads made with it stay valid. If cancelled or failed calls had
 * made much, it waits until that is removed. It also waits for a flush of trees that is under way.
 * NULL is a no-op.
 *
 * @since 0.1.0
 */
void bl_storage_close(bl_storage *storage);

/**
 * The store's directory as an absolute path.
 *
 * @retval BL_OK
 * @retval BL_E_INVALID_ARGUMENT an argument that cannot be
 *
 * Ownership: release *out with bl_bytes_free().
 * Cost: none.
 *
 * @since 0.1.0
 */
bl_status bl_images_dir(const bl_storage *storage,
                        bl_bytes **out,
                        bl_error **err);

/**
 * The folder of the layers' blobs as an absolute path.
 *
 * @retval BL_OK
 * @retval BL_E_INVALID_ARGUMENT an argument that cannot be
 *
 * Ownership: release *out with bl_bytes_free().
 * Cost: none.
 *
 * @since 0.1.0
 */
bl_status bl_layers_dir(const bl_storage *storage,
                        bl_bytes **out,
                        bl_error **err);

/**
 * Stores a manifest or index exactly as given. Saving one that is there is success.
 *
 * @param data, len the document, at most 4 MiB.
 *
 * @retval BL_OK
 * @retval BL_E_DIGEST_MISMATCH when the bytes do not hash to the digest
 * @retval BL_E_MALFORMED the bytes are no OCI or Docker (schema 2) manifest or index
 * @retval BL_E_UNSUPPORTED another schema or media type
 * @retval BL_E_LIMIT more than 4 MiB, or too deep
 * @retval BL_E_NO_SPACE the disk is full
 * @retval BL_E_PERMISSION the system, or a read-only store, refuses
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * Cost: one small file, synced.
 *
 * @since 0.1.0
 */
bl_status bl_save_manifest(bl_storage *storage,
                           const char *digest,
                           const void *data,
                           size_t len,
                           bl_error **err);

/**
 * The exact bytes of a stored manifest or index.
 *
 * @retval BL_OK
 * @retval BL_E_NOT_FOUND when it is absent, or its file does not hash to its name
 * @retval BL_E_PERMISSION the system, or a read-only store, refuses
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * Ownership: release *out with bl_bytes_free().
 * Cost: reads and hashes the file.
 *
 * @since 0.1.0
 */
bl_status bl_load_manifest(const bl_storage *storage,
                           const char *digest,
                           bl_bytes **out,
                           bl_error **err);

/**
 * Whether bl_load_manifest() would find it.
 *
 * @retval BL_OK *out is set
 * @retval BL_E_PERMISSION the system, or a read-only store, refuses
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * Cost: reads and hashes the file.
 *
 * @since 0.1.0
 */
bl_status bl_has_manifest(const bl_storage *storage,
                          const char *digest,
                          bool *out,
                          bl_error **err);

/**
 * Where a manifest is, or would be.
 *
 * @retval BL_OK
 * @retval BL_E_INVALID_ARGUMENT an argument that cannot be
 *
 * Ownership: release *out with bl_bytes_free().
 * Cost: none.
 *
 * @since 0.1.0
 */
bl_status bl_manifest_path(const bl_storage *storage,
                           const char *digest,
                           bl_bytes **out,
                           bl_error **err);

/**
 * Whether a layer's blob is in the store.
 *
 * @retval BL_OK *out is set
 * @retval BL_E_PERMISSION the system, or a read-only store, refuses
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * Cost: one look at the directory.
 *
 * @since 0.1.0
 */
bl_status bl_has_layer(const bl_storage *storage,
                       const char *digest,
                       bool *out,
                       bl_error **err);

/**
 * Reads a layer's blob and checks that it hashes to its digest.
 *
 * @param options NULL for the defaults.
 *
 * @retval BL_OK when it does
 * @retval BL_E_DIGEST_MISMATCH when it does not
 * @retval BL_E_NOT_FOUND it is not there
 * @retval BL_E_CANCELLED the token was triggered
 * @retval BL_E_TIMEOUT the time was over
 * @retval BL_E_PERMISSION the system, or a read-only store, refuses
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * Cost: reads the whole blob; 256 KiB of memory.
 *
 * @since 0.1.0
 */
bl_status bl_verify_layer(const bl_storage *storage,
                          const char *digest,
                          const bl_verify_options *options,
                          bl_error **err);

/**
 * Where a layer's blob is, or would be.
 *
 * @retval BL_OK
 * @retval BL_E_INVALID_ARGUMENT an argument that cannot be
 *
 * Ownership: release *out with bl_bytes_free().
 * Cost: none.
 *
 * @since 0.1.0
 */
bl_status bl_layer_tarball_path(const bl_storage *storage,
                                const char *digest,
                                bl_bytes **out,
                                bl_error **err);

/**
 * Where bl_extract_layer() with default options puts a layer, whether it is there or not. bl_extracted_path() says it
 * for other options.
 *
 * @retval BL_OK
 * @retval BL_E_INVALID_ARGUMENT an argument that cannot be
 *
 * Ownership: release *out with bl_bytes_free().
 * Cost: none.
 *
 * @since 0.1.0
 */
bl_status bl_layer_extracted_path(const bl_storage *storage,
                                  const char *digest,
                                  bl_bytes **out,
                                  bl_error **err);

/**
 * Starts to store a layer. Write its bytes with bl_write() and make it visible with bl_commit().
 *
 * @param expected_size the size that the manifest declares; 0 or less is unknown, then
 *   bl_storage_options.max_blob_bytes holds.
 *
 * @retval BL_OK
 * @retval BL_E_LIMIT for a declared size over max_blob_bytes
 * @retval BL_E_PERMISSION for a read-only store
 * @retval BL_E_NO_SPACE the disk is full
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * Ownership: release *out with bl_staged_free().
 * Cost: creates a file.
 *
 * @since 0.1.0
 */
bl_status bl_stage_layer(bl_storage *storage,
                         const char *digest,
                         int64_t expected_size,
                         bl_staged **out,
                         bl_error **err);

/**
 * Unpacks a layer into the directory that bl_extracted_path() names for the same kind of tree, unless it is there
 * already. By default whiteout markers (`.wh.*`) stay as files: they say what to remove from lower layers. Gzip, zstd
 * and plain tar are told by their bytes. Both digests are checked in the same pass, before the tree appears. Threads
 * and processes that extract one layer at a time wait for the first of them. Trees that differ in
 * BL_TREE_DEVICE_NODES, BL_TREE_OVERRIDE_STAT or whiteouts are different trees.
 *
 * @param options NULL for the defaults.
 * @param result may be NULL.
 *
 * @retval BL_OK
 * @retval BL_E_NOT_FOUND without a file
 * @retval BL_E_DIGEST_MISMATCH when the file does not hash to the digest or its content to options.diff_id
 * @retval BL_E_MALFORMED for what is in it
 * @retval BL_E_UNSAFE_PATH for what is in it
 * @retval BL_E_UNSUPPORTED for what is in it
 * @retval BL_E_LIMIT for what is in it
 * @retval BL_E_CANCELLED the token was triggered
 * @retval BL_E_TIMEOUT the time was over
 * @retval BL_E_CALLBACK the callback ended it
 * @retval BL_E_NO_SPACE the disk is full
 * @retval BL_E_PERMISSION the system, or a read-only store, refuses
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * @note After an error nothing is left.
 *
 * Cost: reads the layer once and writes its files; not synced. One thread of the library's, five where there are two
 * cores. A layer that is there costs a look at the directory.
 *
 * @since 0.1.0
 */
bl_status bl_extract_layer(bl_storage *storage,
                           const char *digest,
                           const bl_extract_options *options,
                           bl_extract_result *result,
                           bl_error **err);

/**
 * Where bl_extract_layer() puts a layer's tree of this kind, whether it is there or not.
 *
 * @param tree as in bl_extract_options; NULL for the defaults.
 *
 * @retval BL_OK
 * @retval BL_E_INVALID_ARGUMENT an argument that cannot be
 * @retval BL_E_UNSUPPORTED an unknown value
 *
 * Ownership: release *out with bl_bytes_free().
 * Cost: none.
 *
 * @since 0.1.0
 */
bl_status bl_extracted_path(const bl_storage *storage,
                            const char *digest,
                            const bl_tree_options *tree,
                            bl_bytes **out,
                            bl_error **err);

/**
 * Begins to list what an extracted layer holds, from the metadata record beside the tree. Every
 * path comes once, whiteouts included, in the order of the archive. The tree itself is not looked
 * at.
 *
 * @param tree as the layer was extracted; NULL for the defaults.
 *
 * @retval BL_OK
 * @retval BL_E_NOT_FOUND for a layer that was not extracted like this, or by boxlite 0.9
 * @retval BL_E_PERMISSION the system, or a read-only store, refuses
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * Ownership: release *out with bl_layer_entries_free().
 * Cost: opens a file.
 *
 * @since 0.1.0
 */
bl_status bl_layer_entries_open(const bl_storage *storage,
                                const char *digest,
                                const bl_tree_options *tree,
                                bl_layer_entries **out,
                                bl_error **err);

/**
 * The next entry. After the last one, entry->kind is BL_ENTRY_END.
 *
 * @retval BL_OK
 * @retval BL_E_MALFORMED for a damaged record
 * @retval BL_E_BUSY while another thread is in a call with the handle
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * Cost: a line of text.
 *
 * @since 0.1.0
 */
bl_status bl_layer_entries_next(bl_layer_entries *entries,
                                bl_layer_entry *entry,
                                bl_error **err);

/**
 * Ends the list. NULL is a no-op.
 *
 * @since 0.1.0
 */
void bl_layer_entries_free(bl_layer_entries *entries);

/**
 * Appends bytes. They are hashed and written before this returns and are not kept.
 *
 * @param data, len the bytes; NULL is allowed for none. To stop early, call bl_abort() or bl_staged_free().
 *
 * @retval BL_OK
 * @retval BL_E_SIZE_MISMATCH at the first byte over the declared size
 * @retval BL_E_LIMIT over the store's limit where no size was declared, or over RLIMIT_FSIZE
 * @retval BL_E_NO_SPACE the disk is full
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 * @retval BL_E_STATE after commit, abort or a failure
 * @retval BL_E_BUSY while another thread is in a call with it
 *
 * @note A mismatch, a limit, a full disk and a failing one end the download and free its disk space.
 *
 * Cost: hashing and one write.
 *
 * @since 0.1.0
 */
bl_status bl_write(bl_staged *staged,
                   const void *data,
                   size_t len,
                   bl_error **err);

/**
 * Verifies size and digest and makes the blob visible, durably unless the store was opened otherwise. That the store
 * has the blob already is success. Does not free the handle.
 *
 * @retval BL_OK
 * @retval BL_E_SIZE_MISMATCH fewer bytes than were declared
 * @retval BL_E_DIGEST_MISMATCH other bytes
 * @retval BL_E_NO_SPACE the disk is full
 * @retval BL_E_PERMISSION the system, or a read-only store, refuses
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 * @retval BL_E_STATE after commit, abort or a failure
 * @retval BL_E_BUSY another thread is in a call with the handle
 *
 * @note After an error nothing is left, except that the verified blob may be visible where only the last sync, of the
 *   folder, failed.
 *
 * Cost: syncs file and folder.
 *
 * @since 0.1.0
 */
bl_status bl_commit(bl_staged *staged,
                    bl_error **err);

/**
 * Ends the download and removes what was written. Does not free the handle. After a failure, or twice, it is a no-op.
 *
 * @retval BL_OK
 * @retval BL_E_STATE after a commit
 * @retval BL_E_BUSY another thread is in a call with the handle
 *
 * Cost: removes a file.
 *
 * @since 0.1.0
 */
bl_status bl_abort(bl_staged *staged,
                   bl_error **err);

/**
 * How many bytes were written so far; 0 for NULL. May be asked from any thread at any time.
 *
 * @since 0.1.0
 */
uint64_t bl_staged_bytes_written(const bl_staged *staged);

/**
 * The partial file, which belongs to the library and is gone after commit, abort and failure.
 *
 * @retval BL_OK
 * @retval BL_E_INVALID_ARGUMENT an argument that cannot be
 *
 * Ownership: release *out with bl_bytes_free().
 * Cost: none.
 *
 * @since 0.1.0
 */
bl_status bl_staged_path(const bl_staged *staged,
                         bl_bytes **out,
                         bl_error **err);

/**
 * Where the blob is after the commit.
 *
 * @retval BL_OK
 * @retval BL_E_INVALID_ARGUMENT an argument that cannot be
 *
 * Ownership: release *out with bl_bytes_free().
 * Cost: none.
 *
 * @since 0.1.0
 */
bl_status bl_final_path(const bl_staged *staged,
                        bl_bytes **out,
                        bl_error **err);

/**
 * Frees the handle, and aborts a download that was not committed. NULL is a no-op.
 *
 * @since 0.1.0
 */
void bl_staged_free(bl_staged *staged);

/**
 * Starts to store an image config, of at most 4 MiB. As bl_stage_layer() otherwise.
 *
 * @retval BL_OK
 * @retval BL_E_PERMISSION for a read-only store
 * @retval BL_E_NO_SPACE the disk is full
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * Ownership: release *out with bl_staged_free().
 * Cost: creates a file.
 *
 * @since 0.1.0
 */
bl_status bl_stage_config(bl_storage *storage,
                          const char *digest,
                          bl_staged **out,
                          bl_error **err);

/**
 * The exact bytes of a stored config.
 *
 * @retval BL_OK
 * @retval BL_E_NOT_FOUND when it is absent, or its file does not hash to its name
 * @retval BL_E_PERMISSION the system, or a read-only store, refuses
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * Ownership: release *out with bl_bytes_free().
 * Cost: reads and hashes the file.
 *
 * @since 0.1.0
 */
bl_status bl_load_config(const bl_storage *storage,
                         const char *digest,
                         bl_bytes **out,
                         bl_error **err);

/**
 * Whether bl_load_config() would find it.
 *
 * @retval BL_OK *out is set
 * @retval BL_E_PERMISSION the system, or a read-only store, refuses
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * Cost: reads and hashes the file.
 *
 * @since 0.1.0
 */
bl_status bl_has_config(const bl_storage *storage,
                        const char *digest,
                        bool *out,
                        bl_error **err);

/**
 * Where a config is, or would be.
 *
 * @retval BL_OK
 * @retval BL_E_INVALID_ARGUMENT an argument that cannot be
 *
 * Ownership: release *out with bl_bytes_free().
 * Cost: none.
 *
 * @since 0.1.0
 */
bl_status bl_config_path(const bl_storage *storage,
                         const char *digest,
                         bl_bytes **out,
                         bl_error **err);

/**
 * Gives an image a name. The manifest, its config and all its layers must be in the store. A name that stands for
 * another image changes over at once; an image may have any number of names.
 *
 * @param name a reference as in "docker pull"; "alpine" is "docker.io/library/alpine:latest".
 *
 * @retval BL_OK
 * @retval BL_E_INVALID_ARGUMENT for what is no reference
 * @retval BL_E_NOT_FOUND naming what is missing
 * @retval BL_E_UNSUPPORTED for an index
 * @retval BL_E_NO_SPACE the disk is full
 * @retval BL_E_PERMISSION the system, or a read-only store, refuses
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * Cost: one small file, synced.
 *
 * @since 0.1.0
 */
bl_status bl_tag_image(bl_storage *storage,
                       const char *name,
                       const char *manifest_digest,
                       bl_error **err);

/**
 * Takes a name away. What it stood for stays in the store.
 *
 * @retval BL_OK
 * @retval BL_E_NOT_FOUND it is not there
 * @retval BL_E_INVALID_ARGUMENT for what is no reference
 * @retval BL_E_PERMISSION the system, or a read-only store, refuses
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * Cost: one file, synced.
 *
 * @since 0.1.0
 */
bl_status bl_remove_image(bl_storage *storage,
                          const char *name,
                          bl_error **err);

/**
 * The names of all images, in full and sorted.
 *
 * @retval BL_OK
 * @retval BL_E_PERMISSION the system, or a read-only store, refuses
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * Ownership: release *out with bl_names_free().
 * Cost: reads a small file for each name.
 *
 * @since 0.1.0
 */
bl_status bl_image_list(const bl_storage *storage,
                        bl_names **out,
                        bl_error **err);

/**
 * How many names there are; 0 for NULL.
 *
 * @since 0.1.0
 */
size_t bl_names_count(const bl_names *names);

/**
 * A name. Valid until bl_names_free().
 *
 * @return NULL from bl_names_count() on.
 *
 * @since 0.1.0
 */
const char *bl_names_get(const bl_names *names,
                         size_t index);

/**
 * Frees the names. NULL is a no-op.
 *
 * @since 0.1.0
 */
void bl_names_free(bl_names *names);

/**
 * Opens an image: reads its manifest and config. By name it also notes that the image was used.
 *
 * @param name a name, or the digest of a manifest.
 *
 * @retval BL_OK also where blobs are missing, which BL_IMAGE_MISSING lists
 * @retval BL_E_NOT_FOUND for the name or the manifest
 * @retval BL_E_INVALID_ARGUMENT for what is neither a reference nor a digest
 * @retval BL_E_UNSUPPORTED for an index
 * @retval BL_E_MALFORMED for a config that is none
 * @retval BL_E_PERMISSION the system, or a read-only store, refuses
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * Ownership: release *out with bl_image_free().
 * Cost: reads and hashes two documents.
 *
 * @since 0.1.0
 */
bl_status bl_image_open(bl_storage *storage,
                        const char *name,
                        bl_image **out,
                        bl_error **err);

/**
 * What an image says: a text, or one of several, of which an index past the last gives NULL. Valid until
 * bl_image_free().
 *
 * @param field BL_IMAGE_*.
 * @param index 0 for those that are one text.
 *
 * @return NULL where there is none, or no more.
 *
 * @since 0.1.0
 */
const char *bl_image_text(const bl_image *image,
                          uint32_t field,
                          size_t index);

/**
 * How many texts a field has.
 *
 * @return 0 for a field that is none, and for NULL.
 *
 * @since 0.1.0
 */
size_t bl_image_text_count(const bl_image *image,
                           uint32_t field);

/**
 * How many layers an image has; 0 for NULL.
 *
 * @since 0.1.0
 */
size_t bl_image_layer_count(const bl_image *image);

/**
 * A layer of an image, the lowest first.
 *
 * @retval BL_OK
 * @retval BL_E_INVALID_ARGUMENT for an index from bl_image_layer_count() on
 *
 * @since 0.1.0
 */
bl_status bl_image_layer(const bl_image *image,
                         size_t index,
                         bl_image_layer_info *layer,
                         bl_error **err);

/**
 * When an image was used, and how much room it takes.
 *
 * @retval BL_OK
 * @retval BL_E_PERMISSION the system, or a read-only store, refuses
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * Cost: reads the manifests of all images that have a name.
 *
 * @since 0.1.0
 */
bl_status bl_image_get_usage(const bl_storage *storage,
                             const bl_image *image,
                             bl_image_usage *usage,
                             bl_error **err);

/**
 * Frees an image. NULL is a no-op.
 *
 * @since 0.1.0
 */
void bl_image_free(bl_image *image);

/**
 * How far one layer of a pull came.
 *
 * @param index below bl_pull_progress.layers.
 *
 * @retval BL_OK
 * @retval BL_E_INVALID_ARGUMENT an argument that cannot be
 * @retval BL_E_NOT_FOUND for an index that is none
 *
 * @since 0.1.0
 */
bl_status bl_pull_layers_get(const bl_pull_layers *list,
                             size_t index,
                             bl_layer_progress *out,
                             bl_error **err);

/**
 * Answers a bl_credentials_callback. The strings are copied.
 *
 * @param user "<token>" where the other is an identity token, which a token server exchanges.
 *
 * @retval BL_OK
 * @retval BL_E_INVALID_ARGUMENT an argument that cannot be
 *
 * @since 0.1.0
 */
bl_status bl_credentials_set(bl_credentials *answer,
                             const char *user,
                             const char *password,
                             bl_error **err);

/**
 * Pulls an image from a registry. What the store lacks is fetched and verified, and layers are
 * unpacked while they arrive. The image's name, the reference in full, comes last. A pull that
 * fails leaves what was fetched and verified, until a collection. What arrived of a layer stays
 * for a day, for the next pull to go on with.
 *
 * @param reference as for `docker pull`: "debian:12", "ghcr.io/owner/image@sha256:...".
 * @param options NULL for the defaults.
 *
 * @retval BL_OK
 * @retval BL_E_INVALID_ARGUMENT for what is no reference, and for files that the options name
 * @retval BL_E_NOT_FOUND where the registry, or with BL_PULL_POLICY_NEVER the store, does not have it, or not for the
 *   platform
 * @retval BL_E_UNAUTHORIZED with bl_error_http_status() and bl_error_registry_code()
 * @retval BL_E_DENIED with bl_error_http_status() and bl_error_registry_code()
 * @retval BL_E_RATE_LIMITED with bl_error_http_status() and bl_error_registry_code()
 * @retval BL_E_REGISTRY with bl_error_http_status() and bl_error_registry_code()
 * @retval BL_E_NETWORK where it cannot be reached or goes silent, after several tries
 * @retval BL_E_TIMEOUT where it cannot be reached or goes silent, after several tries
 * @retval BL_E_DIGEST_MISMATCH for what it sends
 * @retval BL_E_SIZE_MISMATCH for what it sends
 * @retval BL_E_MALFORMED for what it sends, and for files that the options name
 * @retval BL_E_UNSUPPORTED for what it sends
 * @retval BL_E_LIMIT for what it sends
 * @retval BL_E_UNSAFE_PATH for what it sends
 * @retval BL_E_CANCELLED the token was triggered
 * @retval BL_E_CALLBACK the callback ended it
 * @retval BL_E_NO_SPACE the disk is full
 * @retval BL_E_PERMISSION the system, or a read-only store, refuses
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * Ownership: release *out with bl_image_free().
 * Cost: the network; the threads of an extraction and two more for each layer at a time, up to four where a connection
 * is slow.
 *
 * @since 0.1.0
 */
bl_status bl_pull(bl_storage *storage,
                  const char *reference,
                  const bl_pull_options *options,
                  bl_image **out,
                  bl_error **err);

/**
 * Starts bl_pull() on a thread of the library's. bl_op_fd() tells when it is over, bl_op_finish() how it ended.
 *
 * @param options as for bl_pull(), but for a progress callback, for which there is no thread; options.credentials is
 *   called before this function returns. Nothing of them is used after that but options.cancel, which counts as given.
 *
 * @retval BL_OK
 * @retval BL_E_INVALID_ARGUMENT for arguments and options
 * @retval BL_E_UNSUPPORTED for arguments and options
 * @retval BL_E_NOT_FOUND with BL_PULL_POLICY_NEVER
 * @retval BL_E_CALLBACK the callback ended it
 * @retval BL_E_MALFORMED for a hosts.toml
 * @retval BL_E_IO for a hosts.toml
 * @retval BL_E_PERMISSION for a store that is open for reading only
 *
 * @note What happens later is for bl_op_finish().
 *
 * Ownership: release *out with bl_op_free().
 *
 * @since 0.1.0
 */
bl_status bl_pull_start(bl_storage *storage,
                        const char *reference,
                        const bl_pull_options *options,
                        bl_op **out,
                        bl_error **err);

/**
 * A descriptor that becomes readable when the operation is over, and stays so: for poll, epoll, kqueue and everything
 * on top of them. Do not read from it, do not close it; it is valid until bl_op_free(). -1 for NULL.
 *
 * @since 0.1.0
 */
int bl_op_fd(const bl_op *op);

/**
 * Waits until the operation is over.
 *
 * @param timeout_ms how long at most; 0 only looks, less than 0 is without an end.
 * @param finished whether it is over.
 *
 * @retval BL_OK also when it is not over
 * @retval BL_E_INVALID_ARGUMENT an argument that cannot be
 * @retval BL_E_FORKED the process was forked since
 *
 * @since 0.1.0
 */
bl_status bl_op_wait(const bl_op *op,
                     int64_t timeout_ms,
                     bool *finished,
                     bl_error **err);

/**
 * How far the operation came, at this moment.
 *
 * @param progress its each_layer is valid until bl_op_free().
 *
 * @retval BL_OK
 * @retval BL_E_INVALID_ARGUMENT an argument that cannot be
 * @retval BL_E_FORKED the process was forked since
 *
 * @since 0.1.0
 */
bl_status bl_op_progress(const bl_op *op,
                         bl_pull_progress *progress,
                         bl_error **err);

/**
 * Ends the pull within 100 ms, with BL_E_CANCELLED, unless it is over before. NULL is a no-op.
 *
 * @since 0.1.0
 */
void bl_op_cancel(bl_op *op);

/**
 * How the operation ended: its image, or its error. Once: who comes second gets BL_E_STATE.
 *
 * @retval BL_OK
 * @retval BL_E_BUSY when it is not over
 * @retval BL_E_STATE when it was asked before
 * @retval BL_E_INVALID_ARGUMENT an argument that cannot be
 * @retval BL_E_FORKED the process was forked since
 * @return everything that bl_pull() returns
 *
 * Ownership: release *out with bl_image_free().
 *
 * @since 0.1.0
 */
bl_status bl_op_finish(bl_op *op,
                       bl_image **out,
                       bl_error **err);

/**
 * Frees an operation. One that still runs is cancelled, and waited for. NULL is a no-op.
 *
 * @since 0.1.0
 */
void bl_op_free(bl_op *op);

/**
 * Ends what the library does on the network in this process: pulls that run end with BL_E_CANCELLED, then its network
 * threads end. With this, and its stores closed, a host has no thread of ours left, before it forks, say. The next
 * pull starts them again. Not from a callback of a pull, which would wait for itself.
 *
 * @param timeout_ms how long to wait for them; 0 only tells them.
 *
 * @retval BL_OK
 * @retval BL_E_TIMEOUT when pulls have not ended by then: call again
 *
 * @since 0.1.0
 */
bl_status bl_shutdown(uint64_t timeout_ms,
                      bl_error **err);

/**
 * Stores the images of a file, verified, unpacks them, and gives them their names. It takes an OCI layout (a folder,
 * or a tar archive of one) and what docker save writes, plain or compressed with gzip or zstd. The content tells
 * which. Every blob is compared with its digest, and every layer with the config's diff_ids. An archive is read
 * once, from its beginning to its end.
 *
 * @param options NULL for the defaults.
 * @param out what bl_image_open() takes for each image: a name, or the manifest's digest.
 *
 * @retval BL_OK
 * @retval BL_E_NOT_FOUND without a file, an image of the name or for the platform, or a blob
 * @retval BL_E_MALFORMED for what is no archive of images
 * @retval BL_E_DIGEST_MISMATCH for what is in it
 * @retval BL_E_SIZE_MISMATCH for what is in it
 * @retval BL_E_UNSAFE_PATH for what is in it
 * @retval BL_E_UNSUPPORTED for what is in it
 * @retval BL_E_LIMIT for what is in it
 * @retval BL_E_CANCELLED the token was triggered
 * @retval BL_E_TIMEOUT the time was over
 * @retval BL_E_CALLBACK the callback ended it
 * @retval BL_E_NO_SPACE the disk is full
 * @retval BL_E_PERMISSION the system, or a read-only store, refuses
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * @note After an error there is no name, and what was stored goes with the next collection.
 *
 * Ownership: release *out with bl_names_free().
 * Cost: reads all of it, and writes it.
 *
 * @since 0.1.0
 */
bl_status bl_import(bl_storage *storage,
                    const char *path,
                    const bl_import_options *options,
                    bl_names **out,
                    bl_error **err);

/**
 * The same from a descriptor of the host's: an archive in a file, from where that stands, or in a pipe or socket.
 *
 * @param fd stays the host's, and is read to its end.
 *
 * @return as bl_import()
 * @retval BL_E_INVALID_ARGUMENT for what is no descriptor
 *
 * Ownership: release *out with bl_names_free().
 * Cost: reads all of it, and writes it.
 *
 * @since 0.1.0
 */
bl_status bl_import_fd(bl_storage *storage,
                       int fd,
                       const bl_import_options *options,
                       bl_names **out,
                       bl_error **err);

/**
 * Opens an OCI layout's folder where it is, without copying its layers. The result is a store in the folder that
 * bl_local_bundle_cache_dir() names, with the image's documents and trees. A layer is read in the bundle when it is
 * needed, and compared with its digest each time. The image is used as any other, with *out as its store. If the
 * bundle's index says something else the next time, that is another store. The host removes the folders of those
 * that it no longer needs, when no process has them open.
 *
 * @param storage open for writing; need not stay open.
 * @param options as for bl_import(), and with them one image must be left. With BL_IMPORT_NO_UNPACK layers are looked
 *   for, and read when they are needed. NULL for the defaults.
 * @param names what bl_image_open() takes for the image; may be NULL.
 *
 * @return as bl_import()
 * @retval BL_E_INVALID_ARGUMENT for several images, and for BL_IMPORT_HARD_LINK
 * @retval BL_E_UNSUPPORTED for an archive, which bl_import() takes
 *
 * Ownership: release *out with bl_storage_close(), *names with bl_names_free().
 * Cost: the documents; reads the layers that are to be unpacked and are not yet.
 *
 * @since 0.1.0
 */
bl_status bl_bundle_open(bl_storage *storage,
                         const char *bundle_path,
                         const bl_import_options *options,
                         bl_storage **out,
                         bl_names **names,
                         bl_error **err);

/**
 * Writes images to a tar archive, or with BL_EXPORT_FOLDER to a folder. It is an OCI layout: manifests, configs and
 * layers as they are, under the names that the images were opened by. An archive has a manifest.json too, so that it
 * is also what docker load and podman load take. Every layer is compared with its digest on the way. The path gets
 * what is written when it is whole; until then it lies beside, as `.<name>.<random>.assembling`. Not flushed to the
 * disk.
 *
 * @param images count of them, 1 or more.
 * @param options NULL for the defaults.
 *
 * @retval BL_OK
 * @retval BL_E_INVALID_ARGUMENT for no images
 * @retval BL_E_EXISTS where the path is taken
 * @retval BL_E_NOT_FOUND where the store lacks a part
 * @retval BL_E_DIGEST_MISMATCH where one is damaged
 * @retval BL_E_SIZE_MISMATCH where one is damaged
 * @retval BL_E_CANCELLED the token was triggered
 * @retval BL_E_TIMEOUT the time was over
 * @retval BL_E_CALLBACK the callback ended it
 * @retval BL_E_NO_SPACE the disk is full
 * @retval BL_E_PERMISSION the system, or a read-only store, refuses
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * @note After an error the path is as it was.
 *
 * Cost: reads and writes all of it.
 *
 * @since 0.1.0
 */
bl_status bl_export(const bl_storage *storage,
                    bl_image *const *images,
                    size_t count,
                    const char *path,
                    const bl_export_options *options,
                    bl_error **err);

/**
 * The same into a descriptor of the host's: a file, from where that stands, a pipe or a socket. A host that has not
 * said otherwise dies of a SIGPIPE when nobody reads.
 *
 * @param fd stays the host's. After a failure it has a part of the archive.
 * @param options NULL for the defaults; without BL_EXPORT_FOLDER and BL_EXPORT_REPLACE.
 *
 * @return as bl_export()
 *
 * Cost: reads and writes all of it; waits for whoever reads.
 *
 * @since 0.1.0
 */
bl_status bl_export_fd(const bl_storage *storage,
                       bl_image *const *images,
                       size_t count,
                       int fd,
                       const bl_export_options *options,
                       bl_error **err);

/**
 * Makes the root file system of an image: all layers in turn, with what later ones hide left out.
 * It appears at destination when it is whole. The folder that it goes into must be there, and so
 * may be an empty directory of its name. While it is made it lies beside the destination, as
 * `.<name>.<random>.assembling`. As root, files have the image's owners; as an ordinary user they
 * are the user's, and the record has the rest. It is not flushed to the disk. A mount point cannot
 * be renamed to: it is filled in place, as any directory is with BL_ROOTFS_INTO_EXISTING. It may
 * have a lost+found and nothing else; entries appear one after the other, and after a kill some of
 * them may be there.
 *
 * @param options NULL for the defaults.
 * @param result may be NULL.
 *
 * @retval BL_OK
 * @retval BL_E_NOT_FOUND where the store lacks a layer, or there is no folder
 * @retval BL_E_EXISTS where the destination is taken
 * @retval BL_E_UNSUPPORTED for BL_ROOTFS_MODE_HARDLINK to another file system
 * @retval BL_E_MALFORMED for what is in a layer
 * @retval BL_E_UNSAFE_PATH for what is in a layer
 * @retval BL_E_LIMIT for what is in a layer
 * @retval BL_E_DIGEST_MISMATCH for what is in a layer
 * @retval BL_E_CANCELLED the token was triggered
 * @retval BL_E_TIMEOUT the time was over
 * @retval BL_E_CALLBACK the callback ended it
 * @retval BL_E_NO_SPACE the disk is full
 * @retval BL_E_PERMISSION the system, or a read-only store, refuses
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * @note After an error the destination is as it was.
 *
 * Cost: that of writing all files, or a link each; threads as in bl_extract_layer().
 *
 * @since 0.1.0
 */
bl_status bl_assemble_rootfs(bl_storage *storage,
                             const bl_image *image,
                             const char *destination,
                             const bl_rootfs_options *options,
                             bl_rootfs_result *result,
                             bl_error **err);

/**
 * Makes a disk of an image that a guest mounts, as an ext4 or a read-only EROFS. It has all
 * layers in turn, with what later ones hide left out. Root is not needed: owners, devices and
 * attributes are the layers'. Each layer becomes a disk of its own in the store first, as with
 * BL_LAYER_EROFS, unless it is one. Another image with the same layers needs only the others. The
 * same layers and options give the same bytes. The disk appears at destination when it is whole, a
 * file or, with BL_DISK_LAYOUT_MERGED, a directory; its folder must be there. While it is made it
 * lies beside the destination, as `.<name>.<random>.assembling`. It is not flushed to the disk.
 * docs/disks.md says how VMMs attach it.
 *
 * @param options NULL is the defaults.
 *
 * @retval BL_OK
 * @retval BL_E_NOT_FOUND where the store lacks a layer, or there is no folder
 * @retval BL_E_EXISTS where the destination is taken
 * @retval BL_E_UNSUPPORTED for BL_DISK_LAYOUT_MERGED on another file system than the store,
 *   and for what is in a layer
 * @retval BL_E_STATE where a layer's disk in the store is damaged, which bl_check() mends. Also where a source of
 *   options.files is changed while it is read
 * @retval BL_E_INVALID_ARGUMENT for a label that is too long, a UUID that is none, or a path of options.files that cannot be
 * @retval BL_E_MALFORMED for what is in a layer
 * @retval BL_E_UNSAFE_PATH for what is in a layer
 * @retval BL_E_LIMIT for what is in a layer, or a disk of more than 16 TiB
 * @retval BL_E_DIGEST_MISMATCH for what is in a layer
 * @retval BL_E_CANCELLED the token was triggered
 * @retval BL_E_TIMEOUT the time was over
 * @retval BL_E_CALLBACK the callback ended it
 * @retval BL_E_NO_SPACE the host's disk is full, or options.size_bytes are too few: the message says how many it takes
 * @retval BL_E_PERMISSION the system, or a read-only store that lacks a layer's disk, refuses
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * @note After an error the destination is as it was.
 *
 * Ownership: release *out with bl_disk_free().
 * Cost: reads each layer that has no disk yet once; then reads the layers' records, and writes the metadata. A flat disk
 * is copied or shares its blocks. Threads as in bl_extract_layer().
 *
 * @since 0.1.0
 */
bl_status bl_create_disk(bl_storage *storage,
                         const bl_image *image,
                         const char *destination,
                         const bl_disk_options *options,
                         bl_disk **out,
                         bl_error **err);

/**
 * Makes an ext4 without content, for a guest that writes. Without lower it is a scratch disk. With it, it is the writable
 * layer over a disk of that image: it has the directories `upper` and `work` for an overlay mount. The overlay shows owner, mode, time
 * and attributes of `upper` as those of its root, so that they are those of the image's root. What is free are holes.
 *
 * @param lower may be NULL.
 * @param options with size_bytes or free_bytes.
 *
 * @retval BL_OK
 * @retval BL_E_INVALID_ARGUMENT without a size, or for BL_DISK_EROFS
 * @retval BL_E_NO_SPACE options.size_bytes are too few: the message says how many it takes
 * @return otherwise as bl_create_disk()
 *
 * Ownership: release *out with bl_disk_free().
 * Cost: some milliseconds; with an image whose layers have no disks yet as bl_create_disk().
 *
 * @since 0.1.0
 */
bl_status bl_format_disk(bl_storage *storage,
                         const bl_image *lower,
                         const char *destination,
                         const bl_disk_options *options,
                         bl_disk **out,
                         bl_error **err);

/**
 * Makes a disk of an image as bl_create_disk() does, and keeps it in the store, in `disks`. A disk that is there for the same
 * layers and options is found again in a moment, and made anew with BL_DISK_FLAG_REPLACE. A collection keeps it as long as it
 * keeps all of the image's layers, or the lease lives. After a restart of the machine a disk that was not flushed before is
 * gone: ask again, and do not note its path.
 *
 * @param options NULL is the defaults.
 * @param lease keeps a collection from taking the disk. It is the host's to extend (bl_lease_extend) as long as a guest has the
 *   disk, and to end (bl_lease_release) after that.
 *
 * @retval BL_OK
 * @retval BL_E_NOT_FOUND where the store lacks a layer, and the disk is not there
 * @retval BL_E_PERMISSION for a read-only store, or the system refuses
 * @return otherwise as bl_create_disk()
 *
 * Ownership: release *out with bl_disk_free() and *lease with bl_lease_free(), which does not end it.
 * Cost: for a disk that is there a few small reads, and the lease, which is flushed. What options.files and
 * options.top_layer_path name is read each time. Otherwise as bl_create_disk().
 *
 * @since 0.1.0
 */
bl_status bl_keep_disk(bl_storage *storage,
                       const bl_image *image,
                       const bl_disk_options *options,
                       bl_disk **out,
                       bl_lease **lease,
                       bl_error **err);

/**
 * What a disk says of itself. Valid until bl_disk_free().
 *
 * @param field BL_DISK_TEXT_*.
 *
 * @return NULL for a field that is none, and for NULL.
 *
 * @since 0.1.0
 */
const char *bl_disk_text(const bl_disk *disk,
                         uint32_t field);

/**
 * How large a disk is, and what it came to.
 *
 * @retval BL_OK
 *
 * @since 0.1.0
 */
bl_status bl_disk_get_info(const bl_disk *disk,
                           bl_disk_info *info,
                           bl_error **err);

/**
 * One of the files of a disk, in the order of the device: for hosts that put parts together themselves.
 *
 * @param index from 0; below bl_disk_info.parts.
 *
 * @retval BL_OK
 * @retval BL_E_INVALID_ARGUMENT for an index that is none
 *
 * @since 0.1.0
 */
bl_status bl_disk_get_part(const bl_disk *disk,
                           size_t index,
                           bl_disk_part *part,
                           bl_error **err);

/**
 * Releases it; NULL is no error. The disk stays where it is.
 *
 * @since 0.1.0
 */
void bl_disk_free(bl_disk *disk);

/**
 * Makes an image of what was changed: the base's layers, and one layer more. The same changes are the same layer, on any file
 * system, for root and for an ordinary user. With BL_COMMIT_FLAG_EPOCH they are the same image. Whiteouts, opaque directories,
 * hard links, holes, attributes and capabilities come along. Overlayfs' own attributes, labels of the host's and sockets do not. What
 * an ordinary user has made is root's in the image. docs/commit.md says more.
 *
 * @param base NULL is none: the layer is the first.
 * @param options NULL is the defaults.
 *
 * @retval BL_OK
 * @retval BL_E_NOT_FOUND without a source, or the base's config; with a name, where the store lacks a layer of the base
 * @retval BL_E_INVALID_ARGUMENT for a directory that is none, an archive that is one, or what is in options
 * @retval BL_E_STATE the source is changed while it is read
 * @retval BL_E_UNSUPPORTED for what a layer cannot say, such as a name that begins with .wh.
 * @retval BL_E_UNSUPPORTED for what only the layers below, or the work directory, have (redirect_dir, metacopy, index)
 * @retval BL_E_UNSAFE_PATH for what is in an archive
 * @retval BL_E_DIGEST_MISMATCH for a layer of the base that had to be extracted
 * @retval BL_E_LIMIT for more than options.limits, or more layers than an image may have
 * @retval BL_E_MALFORMED for an archive that is none, a base whose documents are none, and what is odd with BL_TREE_STRICT
 * @retval BL_E_CANCELLED the token was triggered
 * @retval BL_E_TIMEOUT the time was over
 * @retval BL_E_CALLBACK the callback ended it
 * @retval BL_E_NO_SPACE the disk is full
 * @retval BL_E_PERMISSION something cannot be read, or the store is read-only
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * @note After an error there is no name, and what was stored goes with the next collection.
 *
 * Ownership: release *out with bl_image_free().
 * Cost: one pass over the source, which is hashed, compressed and written. Several threads compress.
 *
 * @since 0.1.0
 */
bl_status bl_commit_image(bl_storage *storage,
                          const bl_image *base,
                          const bl_commit_source *source,
                          const bl_commit_options *options,
                          bl_image **out,
                          bl_error **err);

/**
 * Makes one layer of an image's layers from one on. What the image comes to stays. What lower ones of them had and later ones hide
 * is not in it any more.
 *
 * @param from_layer from 0 on, the lowest; 0 is all of them.
 * @param options NULL is the defaults.
 *
 * @retval BL_OK
 * @retval BL_E_INVALID_ARGUMENT where there is no such layer, or for what is in options
 * @retval BL_E_NOT_FOUND where the store lacks a layer
 * @return otherwise as bl_commit_image()
 *
 * Ownership: release *out with bl_image_free().
 * Cost: reads the layers' records, and the content of what is left; first each layer that has no disk in the store, once.
 *
 * @since 0.1.0
 */
bl_status bl_squash_image(bl_storage *storage,
                          const bl_image *image,
                          size_t from_layer,
                          const bl_commit_options *options,
                          bl_image **out,
                          bl_error **err);

/**
 * Makes an image with the same layers, and another config or annotations.
 *
 * @param options NULL is the defaults; those of a layer do not count.
 *
 * @retval BL_OK
 * @return otherwise as bl_commit_image(), but for what is about a source
 *
 * Ownership: release *out with bl_image_free().
 * Cost: two small documents.
 *
 * @since 0.1.0
 */
bl_status bl_edit_image(bl_storage *storage,
                        const bl_image *image,
                        const bl_commit_options *options,
                        bl_image **out,
                        bl_error **err);

/**
 * Makes a lease, which holds nothing yet. bl_gc() leaves alone what it holds, until its time or bl_lease_release().
 *
 * @param seconds from now; 1 or more.
 *
 * @retval BL_OK
 * @retval BL_E_NO_SPACE the disk is full
 * @retval BL_E_PERMISSION the system, or a read-only store, refuses
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * Ownership: release *out with bl_lease_free(), which does not end the lease.
 * Cost: one small file, synced.
 *
 * @since 0.1.0
 */
bl_status bl_lease_create(bl_storage *storage,
                          uint64_t seconds,
                          bl_lease **out,
                          bl_error **err);

/**
 * Opens a lease that was made earlier, perhaps by another process.
 *
 * @retval BL_OK
 * @retval BL_E_NOT_FOUND where it has ended
 * @retval BL_E_INVALID_ARGUMENT for what is no id
 * @retval BL_E_PERMISSION the system, or a read-only store, refuses
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * Ownership: release *out with bl_lease_free().
 * Cost: reads a small file.
 *
 * @since 0.1.0
 */
bl_status bl_lease_open(bl_storage *storage,
                        const char *id,
                        bl_lease **out,
                        bl_error **err);

/**
 * What bl_lease_open() takes. Valid until bl_lease_free().
 *
 * @return NULL for NULL.
 *
 * @since 0.1.0
 */
const char *bl_lease_id(const bl_lease *lease);

/**
 * Holds an object, which need not be in the store yet. A manifest, once it is there, holds its config and layers, and
 * their trees. Hold first and look afterwards: what is there then stays.
 *
 * @retval BL_OK
 * @retval BL_E_NOT_FOUND where the lease has ended
 * @retval BL_E_LIMIT after some ten thousand digests
 * @retval BL_E_NO_SPACE the disk is full
 * @retval BL_E_PERMISSION the system, or a read-only store, refuses
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * Cost: one small file, synced; waits for a collection in progress.
 *
 * @since 0.1.0
 */
bl_status bl_lease_hold(bl_lease *lease,
                        const char *digest,
                        bl_error **err);

/**
 * Lets a lease end that many seconds from now, later or earlier than before.
 *
 * @retval BL_OK
 * @retval BL_E_NOT_FOUND where it has ended
 * @retval BL_E_NO_SPACE the disk is full
 * @retval BL_E_PERMISSION the system, or a read-only store, refuses
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * Cost: as bl_lease_hold().
 *
 * @since 0.1.0
 */
bl_status bl_lease_extend(bl_lease *lease,
                          uint64_t seconds,
                          bl_error **err);

/**
 * Ends a lease now. One that has ended is no error. The handle is still to be freed.
 *
 * @retval BL_OK
 * @retval BL_E_PERMISSION the system, or a read-only store, refuses
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * Cost: one file, synced.
 *
 * @since 0.1.0
 */
bl_status bl_lease_release(bl_lease *lease,
                           bl_error **err);

/**
 * Frees the handle; the lease lives on. NULL is a no-op.
 *
 * @since 0.1.0
 */
void bl_lease_free(bl_lease *lease);

/**
 * Extracts an image's layers, where they are missing, in the form that overlayfs takes. The host makes the mount:
 * mount(2) with bl_overlay_mount_options(), upperdir and workdir, in the directory bl_overlay_mount_dir() where there
 * is one. docs/rootfs.md has the code.
 *
 * @param options NULL for the defaults.
 * @param lease keeps a collection from taking the layers. It is the host's to extend (bl_lease_extend) as long as it
 *   mounts them, and to end (bl_lease_release) after that.
 *
 * @retval BL_OK
 * @retval BL_E_UNSUPPORTED for an image of which overlayfs would show something else: assemble a
 *   root file system
 * @retval BL_E_NOT_FOUND where the store lacks a layer
 * @return otherwise as bl_extract_layer()
 *
 * Ownership: release *out with bl_overlay_free() and *lease with bl_lease_free(), which does not end it.
 * Cost: reads the layers' records.
 *
 * @since 0.1.0
 */
bl_status bl_prepare_overlay(bl_storage *storage,
                             const bl_image *image,
                             const bl_overlay_options *options,
                             bl_overlay **out,
                             bl_lease **lease,
                             bl_error **err);

/**
 * What goes into the options of mount(2): "lowerdir=..." with the extracted layers, the uppermost
 * first, and "userxattr" where it is that kind. It has at most 3 KiB for 127 layers. The host adds
 * upperdir and workdir, or another lower directory, without which overlayfs refuses a single one.
 * Names are relative to bl_overlay_mount_dir(), where there is one.
 *
 * @return NULL for NULL. Valid until bl_overlay_free().
 *
 * @since 0.1.0
 */
const char *bl_overlay_mount_options(const bl_overlay *overlay);

/**
 * The directory to mount from, since mount(2) takes a page of options, and absolute paths would be
 * longer. As chdir(2) changes the directory of all threads, a host with several forks for it, or
 * calls unshare(CLONE_FS) first. The paths of upperdir and workdir are absolute all the same.
 *
 * @return NULL where the options have absolute paths. Valid until bl_overlay_free().
 *
 * @since 0.1.0
 */
const char *bl_overlay_mount_dir(const bl_overlay *overlay);

/**
 * How many lower directories there are.
 *
 * @return 0 for NULL.
 *
 * @since 0.1.0
 */
size_t bl_overlay_lower_dir_count(const bl_overlay *overlay);

/**
 * The absolute path of a lower directory, from 0, the uppermost. Not escaped. fsconfig(2) takes
 * each as a "lowerdir+" (Linux 6.8), of at most 255 bytes.
 *
 * @return NULL from the count on. Valid until bl_overlay_free().
 *
 * @since 0.1.0
 */
const char *bl_overlay_lower_dir(const bl_overlay *overlay,
                                 size_t index);

/**
 * Releases it; NULL is no error. A mount stays.
 *
 * @since 0.1.0
 */
void bl_overlay_free(bl_overlay *overlay);

/**
 * What a guest's init needs to know to start an image's program. That is the command (entrypoint
 * and cmd), variables, directory and user. The user is looked up in the image's own /etc/passwd
 * and /etc/group. These are read as regular files of at most 1 MiB; symlinks lead nowhere outside
 * the root file system. Nothing else of the config is followed. An image without entrypoint and
 * cmd has no command: no BL_PROCESS_ARG, and an empty list in the JSON. The home directory is
 * BL_PROCESS_HOME, and no variable.
 *
 * @param storage where the disks of the image's layers are; may be NULL where rootfs is given.
 * @param rootfs the root file system, assembled or mounted; NULL has the user looked up in the layers' disks.
 *
 * @retval BL_OK
 * @retval BL_E_NOT_FOUND for a user or group that is not there by name, and without a config. Without rootfs, also where a layer
 *   has no disk in the store
 * @retval BL_E_MALFORMED for files that are none
 * @retval BL_E_STATE where a layer's disk in the store is damaged
 * @retval BL_E_LIMIT for those that are too large and for numbers from 2^31 on
 * @retval BL_E_PERMISSION the system, or a read-only store, refuses
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * Ownership: release *out with bl_process_free().
 * Cost: reads two files; without rootfs the records of all layers, and keeps what they come to in memory.
 *
 * @since 0.1.0
 */
bl_status bl_image_process(const bl_storage *storage,
                           const bl_image *image,
                           const char *rootfs,
                           bl_process **out,
                           bl_error **err);

/**
 * A text by its field, BL_PROCESS_ARG and so on, and from 0 the index for those that have several; NULL where there is
 * none. Valid until bl_process_free().
 *
 * @since 0.1.0
 */
const char *bl_process_text(const bl_process *process,
                            uint32_t field,
                            size_t index);

/**
 * How many texts a field has.
 *
 * @return 0 for a field that is none, and for NULL.
 *
 * @since 0.1.0
 */
size_t bl_process_text_count(const bl_process *process,
                             uint32_t field);

/**
 * Who it runs as.
 *
 * @retval BL_OK
 *
 * @since 0.1.0
 */
bl_status bl_process_get_user(const bl_process *process,
                              bl_process_user *user,
                              bl_error **err);

/**
 * Releases a process; NULL is no error.
 *
 * @since 0.1.0
 */
void bl_process_free(bl_process *process);

/**
 * Removes what no image name and no lease reaches: manifests, configs, layers, their trees and disks, and what bl_check()
 * moved away. Safe at any time and in any process. Running calls of the library are not disturbed. A tree that the
 * host goes on using needs a name or a lease. A store of boxlite 0.9 has no names: there everything needs one.
 *
 * @param options NULL for the defaults.
 * @param result may be NULL.
 *
 * @retval BL_OK
 * @retval BL_E_STATE the manifest of an image name cannot be read, so that it is not known what must stay
 * @retval BL_E_MALFORMED a name or a lease cannot be read, likewise
 * @retval BL_E_CANCELLED the token was triggered
 * @retval BL_E_TIMEOUT the time was over
 * @retval BL_E_PERMISSION the system, or a read-only store, refuses
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * Cost: reads the manifests of all images, lists all folders, deletes.
 *
 * @since 0.1.0
 */
bl_status bl_gc(bl_storage *storage,
                const bl_gc_options *options,
                bl_gc_result *result,
                bl_error **err);

/**
 * Reads everything in the store and compares it with what it should be. Blobs are compared with their digests, and
 * image names with what they need. Extracted trees are compared with their metadata records: names, types, sizes,
 * contents, links, owners, modes, times, extended attributes. Disks that are kept are compared with what their layers come
 * to. A finding is no failure of the call. What could not be
 * set, by the file system or the user who extracted, is not compared. Owners are not where that user is seen under
 * another number, as from outside a user namespace. Attributes are not on macOS. The manifests of boxlite 0.9, which
 * do not hash to their names, are findings: they count as absent.
 *
 * @param options NULL for the defaults.
 * @param result may be NULL.
 *
 * @retval BL_OK also with findings
 * @retval BL_E_PERMISSION to repair a read-only store
 * @retval BL_E_CANCELLED the token was triggered
 * @retval BL_E_TIMEOUT the time was over
 * @retval BL_E_IO for what says nothing of the store, such as too many open files
 *
 * Cost: reads the whole store; memory of 8 bytes or so for each path of a tree.
 *
 * @since 0.1.0
 */
bl_status bl_check(bl_storage *storage,
                   const bl_check_options *options,
                   bl_check_result *result,
                   bl_error **err);

/**
 * Adds up what the store holds, by kind. What of it a collection would remove, bl_gc() with BL_GC_DRY_RUN says.
 *
 * @retval BL_OK
 * @retval BL_E_PERMISSION the system, or a read-only store, refuses
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * Cost: looks at every object, and reads the heads of the metadata records.
 *
 * @since 0.1.0
 */
bl_status bl_disk_usage(const bl_storage *storage,
                        bl_disk_usage_result *result,
                        bl_error **err);

/**
 * Whether the blobs of all of these layers are in the store; true for none.
 *
 * @param digests, count an array of strings.
 *
 * @retval BL_OK *out is set
 * @retval BL_E_PERMISSION the system, or a read-only store, refuses
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * Cost: a look at the directory for each.
 *
 * @since 0.1.0
 */
bl_status bl_verify_blobs_exist(const bl_storage *storage,
                                const char *const *digests,
                                size_t count,
                                bool *out,
                                bl_error **err);

/**
 * The cache folder in the store for an OCI bundle that the host uses in place. There is one for each bundle, by its
 * real path, and state, by its manifest's digest: no bundle can serve for another. The folder is not created.
 *
 * @param bundle_path an existing file or directory.
 *
 * @retval BL_OK
 * @retval BL_E_NOT_FOUND when the bundle does not exist
 * @retval BL_E_PERMISSION the system, or a read-only store, refuses
 * @retval BL_E_IO the system failed; bl_error_os_errno()
 *
 * Ownership: release *out with bl_bytes_free().
 * Cost: resolves the path.
 *
 * @since 0.1.0
 */
bl_status bl_local_bundle_cache_dir(const bl_storage *storage,
                                    const char *bundle_path,
                                    const char *manifest_digest,
                                    bl_bytes **out,
                                    bl_error **err);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* BOXLITE_IMAGES_H */

#ifndef BL_STORAGE_OPTIONS_INIT
/* Defaults for option and result structs, as initialisers and, for languages without macros, as functions. */
#define BL_STORAGE_OPTIONS_INIT { sizeof(bl_storage_options), 0, 0, 0, 0, 0, 0, 0 }
#define BL_VERIFY_OPTIONS_INIT { sizeof(bl_verify_options), NULL, 0 }
#define BL_LAYER_LIMITS_INIT \
  { sizeof(bl_layer_limits), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
#define BL_TREE_OPTIONS_INIT { sizeof(bl_tree_options), 0, 0, 0, NULL }
#define BL_EXTRACT_OPTIONS_INIT \
  { sizeof(bl_extract_options), NULL, NULL, NULL, NULL, 0, NULL, NULL }
#define BL_EXTRACT_RESULT_INIT { sizeof(bl_extract_result), 0, 0, 0, 0, 0, 0, { 0 } }
#define BL_LAYER_ENTRY_INIT \
  { sizeof(bl_layer_entry), 0, 0, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, NULL, 0 }
#define BL_IMAGE_LAYER_INFO_INIT { sizeof(bl_image_layer_info), NULL, NULL, NULL, 0 }
#define BL_IMAGE_USAGE_INIT { sizeof(bl_image_usage), 0, 0, 0, 0, 0, 0 }
#define BL_LAYER_PROGRESS_INIT { sizeof(bl_layer_progress), 0, 0, 0, 0, 0, { 0 } }
#define BL_REGISTRY_OPTIONS_INIT \
  { sizeof(bl_registry_options), 0, NULL, NULL, NULL, NULL, NULL, NULL }
#define BL_PULL_PROGRESS_INIT { sizeof(bl_pull_progress), 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL }
#define BL_PULL_OPTIONS_INIT \
  { sizeof(bl_pull_options), 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, NULL, 0, NULL, NULL, 0 }
#define BL_IMPORT_OPTIONS_INIT \
  { sizeof(bl_import_options), 0, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL }
#define BL_EXPORT_OPTIONS_INIT { sizeof(bl_export_options), 0, NULL, 0, NULL, NULL }
#define BL_ROOTFS_OPTIONS_INIT \
  { sizeof(bl_rootfs_options), 0, 0, 0, NULL, NULL, NULL, 0, NULL, NULL }
#define BL_ROOTFS_RESULT_INIT { sizeof(bl_rootfs_result), 0, 0, 0 }
#define BL_DISK_FILE_INIT { sizeof(bl_disk_file), 0, 0, 0, 0, 0, NULL, NULL, NULL, 0, NULL }
#define BL_DISK_OPTIONS_INIT \
  { sizeof(bl_disk_options), 0, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL, NULL, 0, 0, NULL, NULL, 0, NULL, NULL }
#define BL_DISK_INFO_INIT { sizeof(bl_disk_info), 0, 0, 0, 0, 0, 0, 0 }
#define BL_DISK_PART_INIT { sizeof(bl_disk_part), NULL, 0, 0 }
#define BL_COMMIT_SOURCE_INIT { sizeof(bl_commit_source), 0, 0, NULL }
#define BL_CONFIG_CHANGES_INIT \
  { sizeof(bl_config_changes), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL }
#define BL_COMMIT_COUNTS_INIT { sizeof(bl_commit_counts), 0, 0, 0 }
#define BL_COMMIT_OPTIONS_INIT \
  { sizeof(bl_commit_options), 0, NULL, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL }
#define BL_OVERLAY_OPTIONS_INIT { sizeof(bl_overlay_options), NULL, 0, NULL, 0, NULL, NULL }
#define BL_PROCESS_USER_INIT { sizeof(bl_process_user), 0, 0, NULL, 0 }
#define BL_GC_OPTIONS_INIT { sizeof(bl_gc_options), 0, 0, 0, NULL, 0, NULL, NULL }
#define BL_GC_RESULT_INIT { sizeof(bl_gc_result), 0, 0, 0 }
#define BL_CHECK_OPTIONS_INIT { sizeof(bl_check_options), 0, 0, NULL, 0, NULL, NULL }
#define BL_CHECK_RESULT_INIT { sizeof(bl_check_result), 0, 0, 0, 0, 0, 0 }
#define BL_DISK_USAGE_RESULT_INIT \
  { sizeof(bl_disk_usage_result), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

static inline bl_storage_options bl_storage_options_init(void)
{
  bl_storage_options made = BL_STORAGE_OPTIONS_INIT;
  return made;
}

static inline bl_verify_options bl_verify_options_init(void)
{
  bl_verify_options made = BL_VERIFY_OPTIONS_INIT;
  return made;
}

static inline bl_layer_limits bl_layer_limits_init(void)
{
  bl_layer_limits made = BL_LAYER_LIMITS_INIT;
  return made;
}

static inline bl_tree_options bl_tree_options_init(void)
{
  bl_tree_options made = BL_TREE_OPTIONS_INIT;
  return made;
}

static inline bl_extract_options bl_extract_options_init(void)
{
  bl_extract_options made = BL_EXTRACT_OPTIONS_INIT;
  return made;
}

static inline bl_extract_result bl_extract_result_init(void)
{
  bl_extract_result made = BL_EXTRACT_RESULT_INIT;
  return made;
}

static inline bl_layer_entry bl_layer_entry_init(void)
{
  bl_layer_entry made = BL_LAYER_ENTRY_INIT;
  return made;
}

static inline bl_image_layer_info bl_image_layer_info_init(void)
{
  bl_image_layer_info made = BL_IMAGE_LAYER_INFO_INIT;
  return made;
}

static inline bl_image_usage bl_image_usage_init(void)
{
  bl_image_usage made = BL_IMAGE_USAGE_INIT;
  return made;
}

static inline bl_layer_progress bl_layer_progress_init(void)
{
  bl_layer_progress made = BL_LAYER_PROGRESS_INIT;
  return made;
}

static inline bl_registry_options bl_registry_options_init(void)
{
  bl_registry_options made = BL_REGISTRY_OPTIONS_INIT;
  return made;
}

static inline bl_pull_progress bl_pull_progress_init(void)
{
  bl_pull_progress made = BL_PULL_PROGRESS_INIT;
  return made;
}

static inline bl_pull_options bl_pull_options_init(void)
{
  bl_pull_options made = BL_PULL_OPTIONS_INIT;
  return made;
}

static inline bl_import_options bl_import_options_init(void)
{
  bl_import_options made = BL_IMPORT_OPTIONS_INIT;
  return made;
}

static inline bl_export_options bl_export_options_init(void)
{
  bl_export_options made = BL_EXPORT_OPTIONS_INIT;
  return made;
}

static inline bl_rootfs_options bl_rootfs_options_init(void)
{
  bl_rootfs_options made = BL_ROOTFS_OPTIONS_INIT;
  return made;
}

static inline bl_rootfs_result bl_rootfs_result_init(void)
{
  bl_rootfs_result made = BL_ROOTFS_RESULT_INIT;
  return made;
}

static inline bl_disk_file bl_disk_file_init(void)
{
  bl_disk_file made = BL_DISK_FILE_INIT;
  return made;
}

static inline bl_disk_options bl_disk_options_init(void)
{
  bl_disk_options made = BL_DISK_OPTIONS_INIT;
  return made;
}

static inline bl_disk_info bl_disk_info_init(void)
{
  bl_disk_info made = BL_DISK_INFO_INIT;
  return made;
}

static inline bl_disk_part bl_disk_part_init(void)
{
  bl_disk_part made = BL_DISK_PART_INIT;
  return made;
}

static inline bl_commit_source bl_commit_source_init(void)
{
  bl_commit_source made = BL_COMMIT_SOURCE_INIT;
  return made;
}

static inline bl_config_changes bl_config_changes_init(void)
{
  bl_config_changes made = BL_CONFIG_CHANGES_INIT;
  return made;
}

static inline bl_commit_counts bl_commit_counts_init(void)
{
  bl_commit_counts made = BL_COMMIT_COUNTS_INIT;
  return made;
}

static inline bl_commit_options bl_commit_options_init(void)
{
  bl_commit_options made = BL_COMMIT_OPTIONS_INIT;
  return made;
}

static inline bl_overlay_options bl_overlay_options_init(void)
{
  bl_overlay_options made = BL_OVERLAY_OPTIONS_INIT;
  return made;
}

static inline bl_process_user bl_process_user_init(void)
{
  bl_process_user made = BL_PROCESS_USER_INIT;
  return made;
}

static inline bl_gc_options bl_gc_options_init(void)
{
  bl_gc_options made = BL_GC_OPTIONS_INIT;
  return made;
}

static inline bl_gc_result bl_gc_result_init(void)
{
  bl_gc_result made = BL_GC_RESULT_INIT;
  return made;
}

static inline bl_check_options bl_check_options_init(void)
{
  bl_check_options made = BL_CHECK_OPTIONS_INIT;
  return made;
}

static inline bl_check_result bl_check_result_init(void)
{
  bl_check_result made = BL_CHECK_RESULT_INIT;
  return made;
}

static inline bl_disk_usage_result bl_disk_usage_result_init(void)
{
  bl_disk_usage_result made = BL_DISK_USAGE_RESULT_INIT;
  return made;
}
#endif /* BL_STORAGE_OPTIONS_INIT */
