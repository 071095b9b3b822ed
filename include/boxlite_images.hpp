/*
 * boxlite-images for C++17 and newer: the functions of boxlite_images.h as types that free themselves.
 *
 * Header only; link what boxlite_images.h needs. Every function of the C header is reachable, under the same words: a
 * bl_storage is a boxlite::storage, bl_extract_layer() its extract_layer(). What a call costs, which statuses it gives and what
 * its options mean is said there, and holds here.
 *
 *  - Owners are move-only and free themselves. One that was moved from, or is not opened yet, is empty: a call on it gives
 *    status::invalid_argument, as NULL does in C.
 *  - A call that can fail gives a result<T>: the value or an error. Looking at the wrong one throws boxlite::exception,
 *    or, without exceptions or with BOXLITE_NO_EXCEPTIONS, ends the program.
 *  - Option structs have the C defaults. Callbacks are std::function; one that throws ends its call with status::callback,
 *    and the exception goes no further. What on_removed and on_finding throw, which end no call, is thrown again after it.
 *  - Strings are UTF-8; a string_view is copied where C wants its end marked. One with a zero in it is refused.
 *
 * Threads: as in C. Copyright the boxlite-images authors; licensed under Apache-2.0.
 */
#ifndef BOXLITE_IMAGES_HPP
#define BOXLITE_IMAGES_HPP

#include "boxlite_images.h"

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>
#if __has_include(<version>)
#include <version>
#endif
#if defined(__cpp_lib_span)
#include <cstddef>
#include <span>
#endif
#if defined(__cpp_exceptions) && !defined(BOXLITE_NO_EXCEPTIONS)
#define BOXLITE_HAS_EXCEPTIONS 1
#include <exception>
#include <stdexcept>
#else
#define BOXLITE_HAS_EXCEPTIONS 0
#endif

namespace boxlite {

// Errors ------------------------------------------------------------------------------------------------------------

enum class status : bl_status {
  ok = BL_OK,
  invalid_argument = BL_E_INVALID_ARGUMENT,
  unsupported = BL_E_UNSUPPORTED,
  not_found = BL_E_NOT_FOUND,
  busy = BL_E_BUSY,
  state = BL_E_STATE,
  exists = BL_E_EXISTS,
  io = BL_E_IO,
  no_space = BL_E_NO_SPACE,
  permission = BL_E_PERMISSION,
  digest_mismatch = BL_E_DIGEST_MISMATCH,
  size_mismatch = BL_E_SIZE_MISMATCH,
  malformed = BL_E_MALFORMED,
  unsafe_path = BL_E_UNSAFE_PATH,
  limit = BL_E_LIMIT,
  unauthorized = BL_E_UNAUTHORIZED,
  denied = BL_E_DENIED,
  network = BL_E_NETWORK,
  timeout = BL_E_TIMEOUT,
  rate_limited = BL_E_RATE_LIMITED,
  registry = BL_E_REGISTRY,
  cancelled = BL_E_CANCELLED,
  callback = BL_E_CALLBACK,
  forked = BL_E_FORKED,
  internal = BL_E_INTERNAL,
};

/// "NOT_FOUND"; bl_status_name().
inline const char *name(status code) noexcept { return bl_status_name(static_cast<bl_status>(code)); }

/// Why a call failed. Copies share it.
class error {
 public:
  /// Takes over what a C function has set.
  explicit error(bl_error *raw) : raw_(raw, bl_error_free) {}

  status code() const noexcept { return static_cast<status>(bl_error_status(raw_.get())); }
  /// One line, naming the object.
  const char *message() const noexcept { return bl_error_message(raw_.get()); }
  /// 0 where the system has said nothing.
  int os_errno() const noexcept { return bl_error_os_errno(raw_.get()); }
  /// 0 where no registry has answered.
  int http_status() const noexcept { return bl_error_http_status(raw_.get()); }
  /// Empty where there is none, as below.
  const char *registry_code() const noexcept { return bl_error_registry_code(raw_.get()); }
  const char *expected_digest() const noexcept { return bl_error_expected_digest(raw_.get()); }
  const char *actual_digest() const noexcept { return bl_error_actual_digest(raw_.get()); }
  bool is_retryable() const noexcept { return bl_error_retryable(raw_.get()); }

 private:
  std::shared_ptr<bl_error> raw_;
};

#if BOXLITE_HAS_EXCEPTIONS
class exception : public std::runtime_error {
 public:
  explicit exception(boxlite::error why) : std::runtime_error(why.message()), why_(std::move(why)) {}
  const boxlite::error &error() const noexcept { return why_; }

 private:
  boxlite::error why_;
};
#endif

/// What a call gives: a value or an error; for void nothing or an error.
template <class T>
class [[nodiscard]] result {
  using stored = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

 public:
  result(stored value) : either_(std::in_place_index<0>, std::move(value)) {}
  result(boxlite::error why) : either_(std::in_place_index<1>, std::move(why)) {}

  bool has_value() const noexcept { return either_.index() == 0; }
  /// Not of a result<bool>, where it would be asked for the wrong thing: has_value(), or value().
  template <class U = T, class = std::enable_if_t<!std::is_same_v<U, bool>>>
  explicit operator bool() const noexcept { return has_value(); }
  status code() const noexcept { return has_value() ? status::ok : std::get_if<1>(&either_)->code(); }

  /// Throws boxlite::exception where there is none.
  stored &value() & { return check(), *std::get_if<0>(&either_); }
  const stored &value() const & { return check(), *std::get_if<0>(&either_); }
  stored value() && { return check(), std::move(*std::get_if<0>(&either_)); }
  stored &operator*() & { return value(); }
  const stored &operator*() const & { return value(); }
  stored operator*() && { return std::move(*this).value(); }
  stored *operator->() { return &value(); }
  const stored *operator->() const { return &value(); }
  stored value_or(stored other) && { return has_value() ? std::move(*std::get_if<0>(&either_)) : std::move(other); }

  /// Only where there is no value.
  const boxlite::error &error() const & {
    if (has_value()) std::abort();
    return *std::get_if<1>(&either_);
  }
  boxlite::error error() && {
    if (has_value()) std::abort();
    return std::move(*std::get_if<1>(&either_));
  }

 private:
  void check() const {
    if (has_value()) return;
#if BOXLITE_HAS_EXCEPTIONS
    throw exception(*std::get_if<1>(&either_));
#else
    std::abort();
#endif
  }

  std::variant<stored, boxlite::error> either_;
};

// What the rest is made of --------------------------------------------------------------------------------------------

/// A string that C can read: const char *, std::string, std::string_view (copied), and what has c_str().
class text {
 public:
  text(const char *chars) : chars_(chars) {}
  text(const std::string &chars) : chars_(chars.find('\0') == chars.npos ? chars.c_str() : "") {}
  text(std::string_view chars) : copy_(chars.find('\0') == chars.npos ? chars : std::string_view()), chars_(nullptr) {}
  /// std::filesystem::path and its like.
  template <class P, class = decltype(std::declval<const P &>().c_str()), class = decltype(std::declval<const P &>().root_path())>
  text(const P &path) : chars_(path.c_str()) {}
  text(const text &) = delete;
  text &operator=(const text &) = delete;

  const char *c_str() const noexcept { return chars_ ? chars_ : copy_ ? copy_->c_str() : nullptr; }

 private:
  std::optional<std::string> copy_;
  const char *chars_;
};

using duration = std::chrono::milliseconds;

namespace detail {

template <class T, void (*Free)(T *)>
struct freed {
  void operator()(T *raw) const noexcept { Free(raw); }
};

template <class T, void (*Free)(T *)>
class owner {
 public:
  /// The C handle, which stays this object's.
  T *get() const noexcept { return raw_.get(); }
  explicit operator bool() const noexcept { return raw_ != nullptr; }

 protected:
  owner() = default;
  explicit owner(T *raw) : raw_(raw) {}
  std::unique_ptr<T, freed<T, Free>> raw_;
};

/// NULL for an empty one; what C would take for a shorter string is an empty one, which is refused.
inline const char *opt(const std::string &value) noexcept {
  return value.empty() ? nullptr : value.find('\0') == value.npos ? value.c_str() : "";
}
/// What is over already is not without an end.
inline uint64_t ms(duration time) noexcept { return time.count() >= 0 ? static_cast<uint64_t>(time.count()) : 1; }
inline uint64_t seconds(std::chrono::seconds time) noexcept { return time.count() > 0 ? static_cast<uint64_t>(time.count()) : 0; }

/// Calls what the host gave; nothing that it throws leaves here.
template <class F, class... A>
int32_t contained(F &function, A &&...args) noexcept {
#if BOXLITE_HAS_EXCEPTIONS
  try {
    return function(std::forward<A>(args)...) ? 0 : 1;
  } catch (...) {
    return 1;
  }
#else
  return function(std::forward<A>(args)...) ? 0 : 1;
#endif
}

/// A callback that C takes no answer from, and what it threw.
template <class F>
struct told {
  const F &function;
#if BOXLITE_HAS_EXCEPTIONS
  std::exception_ptr thrown = nullptr;
#endif

  template <class... A>
  void tell(A &&...args) noexcept {
#if BOXLITE_HAS_EXCEPTIONS
    if (thrown) return;
    try {
      function(std::forward<A>(args)...);
    } catch (...) {
      thrown = std::current_exception();
    }
#else
    function(std::forward<A>(args)...);
#endif
  }

  void rethrow() {
#if BOXLITE_HAS_EXCEPTIONS
    if (thrown) std::rethrow_exception(thrown);
#endif
  }
};

template <class T = void>
result<T> fail(bl_error *err) {
  return result<T>(error(err));
}

inline result<void> done(bl_error *err) {
  if (err) return fail<>(err);
  return result<void>(std::monostate{});
}

inline std::string take(bl_bytes *bytes) {
  std::string all(reinterpret_cast<const char *>(bl_bytes_data(bytes)), bl_bytes_len(bytes));
  bl_bytes_free(bytes);
  return all;
}

inline std::vector<std::string> take(bl_names *names) {
  std::vector<std::string> all;
  for (size_t i = 0; i < bl_names_count(names); i++) all.emplace_back(bl_names_get(names, i));
  bl_names_free(names);
  return all;
}

/// What a function of the form f(..., bl_bytes **out, bl_error **err) gives.
template <class F>
result<std::string> string_of(F &&call) {
  bl_bytes *bytes = nullptr;
  bl_error *err = nullptr;
  if (call(&bytes, &err)) return fail<std::string>(err);
  return result<std::string>(take(bytes));
}

template <class F>
result<bool> bool_of(F &&call) {
  bool is = false;
  bl_error *err = nullptr;
  if (call(&is, &err)) return fail<bool>(err);
  return result<bool>(is);
}

}  // namespace detail

/// Every limit at its default: set the fields that are to be others.
struct layer_limits : bl_layer_limits {
  layer_limits() : bl_layer_limits(bl_layer_limits_init()) {}
};

// The plain structs of C, in which nothing is owned.
using progress = bl_progress;
using extract_result = bl_extract_result;
using image_usage = bl_image_usage;
using rootfs_result = bl_rootfs_result;
using gc_result = bl_gc_result;
using check_result = bl_check_result;
using disk_usage = bl_disk_usage_result;
using finding = bl_finding;
using layer_progress = bl_layer_progress;

/// False ends the call with status::callback.
using progress_callback = std::function<bool(const progress &)>;

/// Ends calls from another thread. Copies are the same token.
class cancel {
 public:
  static result<cancel> make() {
    bl_cancel *raw = nullptr;
    bl_error *err = nullptr;
    if (bl_cancel_new(&raw, &err)) return detail::fail<cancel>(err);
    return result<cancel>(cancel(raw));
  }
  /// None: nothing is ended.
  cancel() = default;
  void trigger() const noexcept { bl_cancel_trigger(raw_.get()); }
  bool is_triggered() const noexcept { return bl_cancel_is_triggered(raw_.get()); }
  bl_cancel *get() const noexcept { return raw_.get(); }

 private:
  explicit cancel(bl_cancel *raw) : raw_(raw, bl_cancel_free) {}
  std::shared_ptr<bl_cancel> raw_;
};

/// Bytes of the longest digest as a string, with its NUL.
inline constexpr size_t digest_max = BL_DIGEST_MAX;

inline const char *version_string() noexcept { return bl_version_string(); }
inline uint32_t version_number() noexcept { return bl_version_number(); }

enum class feature : uint32_t { pull = BL_FEATURE_PULL, isal = BL_FEATURE_ISAL };
/// Whether the library that is loaded was built with it.
inline bool has_feature(feature of) noexcept { return bl_has_feature(static_cast<uint32_t>(of)); }

/// Ends what runs on the network, and its threads; a timeout of zero only tells them. bl_shutdown().
inline result<void> shutdown(duration timeout) {
  bl_error *err = nullptr;
  bl_shutdown(detail::ms(timeout), &err);
  return detail::done(err);
}

enum class log_level : int32_t {
  off = BL_LOG_OFF,
  error = BL_LOG_ERROR,
  warn = BL_LOG_WARN,
  info = BL_LOG_INFO,
  debug = BL_LOG_DEBUG,
  trace = BL_LOG_TRACE,
};

using log_callback = std::function<void(log_level, const char *message)>;

/// Where log lines go, for the whole process; bl_set_log_callback(). An empty callback: nowhere.
inline result<void> set_log_callback(log_level level, log_callback callback) {
  // The one that is set lives until it is replaced: C promises that it is not running then.
  // Both outlive every destructor: the library may log until the end of the process.
  static std::mutex &mutex = *new std::mutex;
  static std::unique_ptr<log_callback> &current = *new std::unique_ptr<log_callback>;
  std::lock_guard<std::mutex> lock(mutex);
  auto next = callback ? std::make_unique<log_callback>(std::move(callback)) : nullptr;
  bl_log_callback call = [](int32_t at, const char *message, void *data) {
    detail::told<log_callback>{*static_cast<log_callback *>(data)}.tell(static_cast<log_level>(at), message);
  };
  bl_error *err = nullptr;
  if (!bl_set_log_callback(static_cast<int32_t>(level), next ? call : nullptr, next.get(), &err)) current = std::move(next);
  return detail::done(err);
}

// Options -------------------------------------------------------------------------------------------------------------

enum class durability : uint32_t { full = BL_DURABILITY_FULL, none = BL_DURABILITY_NONE };
enum class whiteouts : uint32_t {
  markers = BL_WHITEOUTS_MARKERS,
  overlay = BL_WHITEOUTS_OVERLAY,
  user_overlay = BL_WHITEOUTS_USER_OVERLAY,
};
enum class layer_form : uint32_t { directory = BL_LAYER_DIRECTORY, erofs = BL_LAYER_EROFS };
enum class pull_policy : uint32_t {
  missing = BL_PULL_POLICY_MISSING,
  always = BL_PULL_POLICY_ALWAYS,
  newer = BL_PULL_POLICY_NEWER,
  never = BL_PULL_POLICY_NEVER,
};
enum class rootfs_mode : uint32_t {
  copy = BL_ROOTFS_MODE_COPY,
  reflink = BL_ROOTFS_MODE_REFLINK,
  hardlink = BL_ROOTFS_MODE_HARDLINK,
  direct = BL_ROOTFS_MODE_DIRECT,
};

struct storage_options {
  bool read_only = false;
  bool single_process = false;
  uint64_t max_blob_bytes = 0;
  boxlite::durability durability = boxlite::durability::full;
  uint64_t min_free_bytes = 0;
  uint64_t gc_above_bytes = 0;
  std::chrono::seconds gc_min_age{0};
};

struct verify_options {
  boxlite::cancel cancel;
  duration timeout{0};
};

/// What a tree looks like, and what a layer may cost.
struct tree_options {
  bool device_nodes = false;
  bool strict = false;
  bool override_stat = false;
  boxlite::whiteouts whiteouts = boxlite::whiteouts::markers;
  /// A directory, or one file with an EROFS file system in it.
  layer_form form = layer_form::directory;
  std::optional<layer_limits> limits;
};

struct extract_options {
  tree_options tree;
  /// Empty strings here and below: none.
  std::string tarball_path;
  std::string diff_id;
  boxlite::cancel cancel;
  duration timeout{0};
  progress_callback on_progress;
};

struct registry_options {
  std::string host;
  bool plain_http = false;
  bool skip_verify = false;
  std::string ca_file;
  std::string client_certificate;
  std::string client_key;
  /// "Name: value".
  std::vector<std::string> headers;
  std::vector<std::string> mirrors;
};

struct credentials {
  std::string user;
  std::string password;
};

/// How far a pull came. Its layers can be asked for while it is valid: in the callback, or until the next look at the operation.
class pull_progress {
 public:
  explicit pull_progress(const bl_pull_progress &raw) : raw_(raw) {}
  const bl_pull_progress *operator->() const noexcept { return &raw_; }
  result<layer_progress> layer(size_t index) const {
    layer_progress layer = bl_layer_progress_init();
    bl_error *err = nullptr;
    if (bl_pull_layers_get(raw_.each_layer, index, &layer, &err)) return detail::fail<layer_progress>(err);
    return result<layer_progress>(layer);
  }

 private:
  bl_pull_progress raw_;
};

struct pull_options {
  pull_policy policy = pull_policy::missing;
  bool no_unpack = false;
  bool strict_platform = false;
  bool auth_files = false;
  bool no_credential_helpers = false;
  bool proxy_environment = false;
  bool mirrors_only = false;
  uint32_t parallel = 0;
  std::string platform;
  std::string user;
  std::string password;
  /// What to log in with; where it gives none, the files of the options are asked.
  std::function<std::optional<boxlite::credentials>(const char *host, const char *repository)> credentials;
  std::string auth_file;
  std::vector<registry_options> registries;
  std::string hosts_dir;
  std::string proxy;
  tree_options tree;
  std::string user_agent;
  uint64_t max_bytes = 0;
  duration connect_timeout{0};
  duration stall_timeout{0};
  boxlite::cancel cancel;
  duration timeout{0};
  std::function<bool(const pull_progress &)> on_progress;
  duration progress_interval{0};
};

struct import_options {
  bool no_unpack = false;
  bool strict_platform = false;
  bool hard_link = false;
  std::string select;
  std::string name;
  std::string platform;
  tree_options tree;
  boxlite::cancel cancel;
  duration timeout{0};
  progress_callback on_progress;
};

struct export_options {
  bool folder = false;
  bool replace = false;
  boxlite::cancel cancel;
  duration timeout{0};
  progress_callback on_progress;
};

struct rootfs_options {
  rootfs_mode mode = rootfs_mode::copy;
  bool replace = false;
  bool into_existing = false;
  tree_options tree;
  std::string record_path;
  boxlite::cancel cancel;
  duration timeout{0};
  progress_callback on_progress;
};

enum class disk_format : uint32_t { ext4 = BL_DISK_EXT4, erofs = BL_DISK_EROFS };
enum class disk_layout : uint32_t { flat = BL_DISK_LAYOUT_FLAT, merged = BL_DISK_LAYOUT_MERGED };

/// Something that a disk has on top of its image.
struct disk_file {
  enum class kinds : uint32_t { regular = BL_DISK_FILE_REGULAR, directory = BL_DISK_FILE_DIRECTORY, symlink = BL_DISK_FILE_SYMLINK };
  /// Where in the image. It leads through the image's symlinks and never out.
  std::string path;
  /// The content of a file; or a file of the host's whose content it gets.
  std::string data{}, source{};
  /// Where a symlink leads to.
  std::string target{};
  kinds kind = kinds::regular;
  /// Zero: 0644, and 0755 of a directory.
  uint32_t mode = 0;
  uint32_t uid = 0, gid = 0;
  /// Since 1970.
  std::chrono::seconds mtime{0};
};

struct disk_options {
  disk_format format = disk_format::ext4;
  /// A merged one is EROFS.
  disk_layout layout = disk_layout::flat;
  bool replace = false;
  bool strict = false;
  /// Leave no disks of layers in the store that are not there yet.
  bool direct = false;
  /// Of an ext4: bytes of the whole, or zero; bytes and inodes that are to be free.
  uint64_t size_bytes = 0, free_bytes = 0, free_inodes = 0;
  /// An ext4 with a journal, for guests that write: its bytes; zero is as many as mke2fs takes.
  std::optional<uint64_t> journal_bytes;
  /// An ext4 that can grow while it is mounted.
  bool growable = false;
  /// Hashes of all blocks behind the file system, for dm-verity.
  bool verity = false;
  /// An archive that goes on top of the image as a layer would. Files go on top of that.
  std::string top_layer;
  std::vector<disk_file> files;
  /// At most 16 bytes in ext4 and 15 in EROFS.
  std::string label;
  /// Empty: made of the layers and the options.
  std::string uuid;
  /// Seconds since 1970; zero is not to change times.
  std::chrono::seconds max_mtime{0};
  /// Of keep_disk(); zero is a day.
  std::chrono::seconds lease{0};
  std::optional<layer_limits> limits;
  boxlite::cancel cancel;
  duration timeout{0};
  progress_callback on_progress;
};

/// What was changed: the upper directory of an overlay, a directory with all of the image, the archive of a layer.
enum class commit_source : uint32_t { upper = BL_COMMIT_UPPER, tree = BL_COMMIT_TREE, archive = BL_COMMIT_ARCHIVE };
/// How a layer is stored.
enum class compression : uint32_t {
  /// zstd, and gzip on a base with Docker's media types.
  by_base = BL_COMPRESSION_DEFAULT,
  zstd = BL_COMPRESSION_ZSTD,
  gzip = BL_COMPRESSION_GZIP,
  none = BL_COMPRESSION_NONE,
};

/// What of a config is to be another than the base's. What is not given stays.
struct config_changes {
  /// The command's first words, and the arguments; an empty list is none.
  std::optional<std::vector<std::string>> entrypoint, cmd;
  /// Variables as "NAME=value", in place of those of the same name; names of those that go.
  std::vector<std::string> env, unset_env;
  std::optional<std::string> working_dir, user, stop_signal;
  /// As "key=value", in place of those of the same key; keys of those that go.
  std::vector<std::string> labels, unset_labels;
  /// Further ports, as "8080/tcp", and directories with data of their own.
  std::vector<std::string> exposed_ports, volumes;
};

struct commit_options {
  /// What the image is called; empty: nothing, and a collection may take it, unless a lease holds it.
  std::string name;
  boxlite::compression compression = boxlite::compression::by_base;
  /// Zero is 3 for zstd, and 6 for gzip.
  int32_t level = 0;
  /// Since 1970: when it was made, and the latest time of any file. The same changes are the same image then.
  std::optional<std::chrono::seconds> epoch;
  std::string author, message, created_by;
  config_changes changes;
  /// Of the manifest, as "key=value".
  std::vector<std::string> annotations;
  /// Read the files of a tree that look as they were, too.
  bool compare_content = false;
  /// Go into other file systems that are mounted below.
  bool cross_file_systems = false;
  /// The overlay was mounted with `userxattr`.
  bool userxattr = false;
  /// The new layer is extracted too, in this form, with the source's blocks where the file system can share them.
  std::optional<tree_options> extract;
  std::optional<layer_limits> limits;
  boxlite::cancel cancel;
  duration timeout{0};
  progress_callback on_progress;
};

struct overlay_options {
  /// whiteouts::user_overlay for a mount with userxattr; anything else is whiteouts::overlay.
  tree_options tree;
  std::chrono::seconds lease{0};
  boxlite::cancel cancel;
  duration timeout{0};
  progress_callback on_progress;
};

struct gc_options {
  bool dry_run = false;
  /// Zero is an hour.
  std::chrono::seconds min_age{0};
  bool any_age = false;
  /// Disks that nobody has asked for in this time go too; zero is to keep them.
  std::chrono::seconds max_disk_idle{0};
  boxlite::cancel cancel;
  duration timeout{0};
  std::function<void(const char *object)> on_removed;
};

struct check_options {
  bool repair = false;
  bool skip_trees = false;
  uint64_t bytes_per_second = 0;
  boxlite::cancel cancel;
  duration timeout{0};
  std::function<void(const finding &)> on_finding;
};

namespace detail {

inline int32_t on_progress(const bl_progress *progress, void *data) {
  return contained(*static_cast<const progress_callback *>(data), *progress);
}

inline uint64_t flag(bool is_set, uint64_t flag) noexcept { return is_set ? flag : 0; }

/// The fields that most option structs share.
template <class C, class O>
void set_common(C &c, const O &o) {
  c.cancel = o.cancel.get();
  c.timeout_ms = ms(o.timeout);
  if (o.on_progress) {
    c.progress = on_progress;
    c.progress_data = const_cast<progress_callback *>(&o.on_progress);
  }
}

inline bl_tree_options c_options(const tree_options &o) {
  bl_tree_options c = bl_tree_options_init();
  c.flags = flag(o.device_nodes, BL_TREE_DEVICE_NODES) | flag(o.strict, BL_TREE_STRICT) |
            flag(o.override_stat, BL_TREE_OVERRIDE_STAT);
  c.whiteouts = static_cast<uint32_t>(o.whiteouts);
  c.form = static_cast<uint32_t>(o.form);
  c.limits = o.limits ? &*o.limits : nullptr;
  return c;
}

/// C options, and those of the tree that they point to.
template <class C>
struct with_tree {
  with_tree(const C &options, const tree_options &o) : c(options), tree(c_options(o)) { c.tree = &tree; }
  with_tree(const with_tree &) = delete;
  with_tree &operator=(const with_tree &) = delete;

  C c;
  bl_tree_options tree;
};

inline with_tree<bl_extract_options> c_options(const extract_options &o) {
  bl_extract_options c = bl_extract_options_init();
  set_common(c, o);
  c.tarball_path = opt(o.tarball_path);
  c.diff_id = opt(o.diff_id);
  return {c, o.tree};
}

inline with_tree<bl_import_options> c_options(const import_options &o) {
  bl_import_options c = bl_import_options_init();
  set_common(c, o);
  c.flags = flag(o.no_unpack, BL_IMPORT_NO_UNPACK) | flag(o.strict_platform, BL_IMPORT_STRICT_PLATFORM) |
            flag(o.hard_link, BL_IMPORT_HARD_LINK);
  c.select = opt(o.select);
  c.name = opt(o.name);
  c.platform = opt(o.platform);
  return {c, o.tree};
}

inline bl_export_options c_options(const export_options &o) {
  bl_export_options c = bl_export_options_init();
  set_common(c, o);
  c.flags = flag(o.folder, BL_EXPORT_FOLDER) | flag(o.replace, BL_EXPORT_REPLACE);
  return c;
}

inline with_tree<bl_rootfs_options> c_options(const rootfs_options &o) {
  bl_rootfs_options c = bl_rootfs_options_init();
  set_common(c, o);
  c.flags = flag(o.replace, BL_ROOTFS_REPLACE) | flag(o.into_existing, BL_ROOTFS_INTO_EXISTING);
  c.mode = static_cast<uint32_t>(o.mode);
  c.record_path = opt(o.record_path);
  return {c, o.tree};
}

/// The C options of a disk, and the list that they point to.
class disk_frame {
 public:
  explicit disk_frame(const disk_options &o);
  disk_frame(const disk_frame &) = delete;
  disk_frame &operator=(const disk_frame &) = delete;

  bl_disk_options c;

 private:
  std::vector<bl_disk_file> files_;
  std::vector<const bl_disk_file *> pointers_;
};

inline disk_frame::disk_frame(const disk_options &o) : c(bl_disk_options_init()) {
  set_common(c, o);
  c.flags = flag(o.replace, BL_DISK_FLAG_REPLACE) | flag(o.strict, BL_DISK_FLAG_STRICT) | flag(o.direct, BL_DISK_FLAG_DIRECT) |
            flag(o.journal_bytes.has_value(), BL_DISK_FLAG_JOURNAL) | flag(o.growable, BL_DISK_FLAG_GROWABLE) |
            flag(o.verity, BL_DISK_FLAG_VERITY);
  c.size_bytes = o.size_bytes;
  c.free_bytes = o.free_bytes;
  c.free_inodes = o.free_inodes;
  c.journal_bytes = o.journal_bytes.value_or(0);
  c.lease_seconds = seconds(o.lease);
  c.format = static_cast<uint32_t>(o.format);
  c.layout = static_cast<uint32_t>(o.layout);
  c.label = opt(o.label);
  c.uuid = opt(o.uuid);
  c.max_mtime_seconds = o.max_mtime.count();
  c.limits = o.limits ? &*o.limits : nullptr;
  c.top_layer_path = opt(o.top_layer);
  if (o.files.empty()) return;
  files_.reserve(o.files.size());
  for (const disk_file &file : o.files) {
    bl_disk_file f = bl_disk_file_init();
    f.kind = static_cast<uint32_t>(file.kind);
    f.mode = file.mode;
    f.uid = file.uid;
    f.gid = file.gid;
    f.mtime_seconds = static_cast<uint64_t>(file.mtime.count());
    f.path = file.path.c_str();
    f.source = opt(file.source);
    f.data = file.data.empty() ? nullptr : file.data.data();
    f.data_len = file.data.size();
    f.target = opt(file.target);
    files_.push_back(f);
  }
  for (const bl_disk_file &file : files_) pointers_.push_back(&file);
  pointers_.push_back(nullptr);
  c.files = pointers_.data();
}

/// The C options of a commit, and the lists that they point to.
class commit_frame {
 public:
  explicit commit_frame(const commit_options &o);
  commit_frame(const commit_frame &) = delete;
  commit_frame &operator=(const commit_frame &) = delete;

  bl_commit_options c;
  bl_commit_counts counts;

 private:
  const char *const *list(const std::vector<std::string> &texts);
  const char *const *list(const std::optional<std::vector<std::string>> &texts) { return texts ? list(*texts) : nullptr; }

  bl_config_changes changes_;
  bl_tree_options tree_;
  std::deque<std::vector<const char *>> lists_;
};

inline const char *const *commit_frame::list(const std::vector<std::string> &texts) {
  std::vector<const char *> all;
  for (const std::string &text : texts) all.push_back(text.c_str());
  all.push_back(nullptr);
  lists_.push_back(std::move(all));
  return lists_.back().data();
}

inline commit_frame::commit_frame(const commit_options &o)
    : c(bl_commit_options_init()), counts(bl_commit_counts_init()), changes_(bl_config_changes_init()), tree_(bl_tree_options_init()) {
  const auto given = [](const std::optional<std::string> &text) { return text ? text->c_str() : nullptr; };
  set_common(c, o);
  c.flags = flag(o.epoch.has_value(), BL_COMMIT_FLAG_EPOCH) | flag(o.cross_file_systems, BL_COMMIT_FLAG_CROSS_FILE_SYSTEMS) |
            flag(o.userxattr, BL_COMMIT_FLAG_USERXATTR) | flag(o.compare_content, BL_COMMIT_FLAG_COMPARE_CONTENT);
  c.name = opt(o.name);
  c.compression = static_cast<uint32_t>(o.compression);
  c.level = o.level;
  c.epoch_seconds = o.epoch ? o.epoch->count() : 0;
  c.author = opt(o.author);
  c.message = opt(o.message);
  c.created_by = opt(o.created_by);
  c.annotations = list(o.annotations);
  c.counts = &counts;
  if (o.extract) {
    tree_ = c_options(*o.extract);
    c.extract = &tree_;
  }
  c.limits = o.limits ? &*o.limits : nullptr;
  changes_.entrypoint = list(o.changes.entrypoint);
  changes_.cmd = list(o.changes.cmd);
  changes_.env = list(o.changes.env);
  changes_.unset_env = list(o.changes.unset_env);
  changes_.working_dir = given(o.changes.working_dir);
  changes_.user = given(o.changes.user);
  changes_.labels = list(o.changes.labels);
  changes_.unset_labels = list(o.changes.unset_labels);
  changes_.exposed_ports = list(o.changes.exposed_ports);
  changes_.volumes = list(o.changes.volumes);
  changes_.stop_signal = given(o.changes.stop_signal);
  c.changes = &changes_;
}

inline with_tree<bl_overlay_options> c_options(const overlay_options &o) {
  bl_overlay_options c = bl_overlay_options_init();
  set_common(c, o);
  c.lease_seconds = seconds(o.lease);
  return {c, o.tree};
}

/// The C options of a pull, and the lists that they point to.
class pull_frame {
 public:
  explicit pull_frame(const pull_options &o) : c(bl_pull_options_init()), tree_(c_options(o.tree)) {
    c.flags = flag(o.no_unpack, BL_PULL_NO_UNPACK) | flag(o.strict_platform, BL_PULL_STRICT_PLATFORM) |
              flag(o.auth_files, BL_PULL_AUTH_FILES) | flag(o.no_credential_helpers, BL_PULL_NO_CREDENTIAL_HELPERS) |
              flag(o.proxy_environment, BL_PULL_PROXY_ENVIRONMENT) | flag(o.mirrors_only, BL_PULL_MIRRORS_ONLY);
    c.policy = static_cast<uint32_t>(o.policy);
    c.parallel = o.parallel;
    c.platform = opt(o.platform);
    // C refuses one without the other, which is what becomes of one with a zero in it.
    bool is_refused = o.user.find('\0') != o.user.npos || o.password.find('\0') != o.password.npos;
    c.user = is_refused ? nullptr : opt(o.user);
    c.password = o.user.empty() && o.password.empty() ? nullptr : is_refused ? "" : o.password.c_str();
    if (o.credentials) {
      c.credentials = on_credentials;
      c.credentials_data = const_cast<void *>(static_cast<const void *>(&o.credentials));
    }
    c.auth_file = opt(o.auth_file);
    c.hosts_dir = opt(o.hosts_dir);
    c.proxy = opt(o.proxy);
    c.tree = &tree_;
    c.user_agent = opt(o.user_agent);
    c.max_bytes = o.max_bytes;
    c.connect_timeout_ms = ms(o.connect_timeout);
    c.stall_timeout_ms = ms(o.stall_timeout);
    c.cancel = o.cancel.get();
    c.timeout_ms = ms(o.timeout);
    if (o.on_progress) {
      c.progress = on_pull_progress;
      c.progress_data = const_cast<void *>(static_cast<const void *>(&o.on_progress));
    }
    c.progress_interval_ms = ms(o.progress_interval);
    if (o.registries.empty()) return;
    registries_.reserve(o.registries.size());
    lists_.reserve(2 * o.registries.size());
    for (const registry_options &registry : o.registries) {
      bl_registry_options r = bl_registry_options_init();
      r.flags = flag(registry.plain_http, BL_REGISTRY_PLAIN_HTTP) | flag(registry.skip_verify, BL_REGISTRY_SKIP_VERIFY);
      r.host = opt(registry.host);
      r.ca_file = opt(registry.ca_file);
      r.client_certificate = opt(registry.client_certificate);
      r.client_key = opt(registry.client_key);
      r.headers = list(registry.headers);
      r.mirrors = list(registry.mirrors);
      registries_.push_back(r);
    }
    for (const bl_registry_options &registry : registries_) pointers_.push_back(&registry);
    pointers_.push_back(nullptr);
    c.registries = pointers_.data();
  }
  pull_frame(const pull_frame &) = delete;
  pull_frame &operator=(const pull_frame &) = delete;

  bl_pull_options c;

 private:
  const char *const *list(const std::vector<std::string> &strings) {
    if (strings.empty()) return nullptr;
    std::vector<const char *> pointers;
    for (const std::string &string : strings) pointers.push_back(string.c_str());
    pointers.push_back(nullptr);
    lists_.push_back(std::move(pointers));
    return lists_.back().data();
  }

  static int32_t on_credentials(const char *host, const char *repository, bl_credentials *answer, void *data) {
    auto &ask = *static_cast<const decltype(pull_options::credentials) *>(data);
    auto give = [&] {
      std::optional<credentials> found = ask(host, repository);
      if (found && (found->user.find('\0') != found->user.npos || found->password.find('\0') != found->password.npos)) return false;
      return !found || bl_credentials_set(answer, found->user.c_str(), found->password.c_str(), nullptr) == BL_OK;
    };
    return contained(give);
  }

  static int32_t on_pull_progress(const bl_pull_progress *progress, void *data) {
    auto &tell = *static_cast<const decltype(pull_options::on_progress) *>(data);
    return contained(tell, pull_progress(*progress));
  }

  bl_tree_options tree_;
  std::vector<bl_registry_options> registries_;
  std::vector<const bl_registry_options *> pointers_;
  std::vector<std::vector<const char *>> lists_;
};

}  // namespace detail

// What a store has ----------------------------------------------------------------------------------------------------

/// A staged download: bytes of one blob on their way into the store.
class staged : public detail::owner<bl_staged, bl_staged_free> {
 public:
  staged() = default;
  explicit staged(bl_staged *raw) : owner(raw) {}

  result<void> write(const void *data, size_t size) {
    bl_error *err = nullptr;
    bl_write(get(), data, size, &err);
    return detail::done(err);
  }
  result<void> write(std::string_view data) { return write(data.data(), data.size()); }
#if defined(__cpp_lib_span)
  result<void> write(std::span<const std::byte> data) { return write(data.data(), data.size()); }
#endif
  result<void> commit() {
    bl_error *err = nullptr;
    bl_commit(get(), &err);
    return detail::done(err);
  }
  result<void> abort() {
    bl_error *err = nullptr;
    bl_abort(get(), &err);
    return detail::done(err);
  }
  uint64_t bytes_written() const noexcept { return bl_staged_bytes_written(get()); }
  result<std::string> staged_path() const {
    return detail::string_of([&](bl_bytes **out, bl_error **err) { return bl_staged_path(get(), out, err); });
  }
  result<std::string> final_path() const {
    return detail::string_of([&](bl_bytes **out, bl_error **err) { return bl_final_path(get(), out, err); });
  }
};

enum class entry_kind : uint32_t {
  file = BL_ENTRY_FILE,
  directory = BL_ENTRY_DIRECTORY,
  symlink = BL_ENTRY_SYMLINK,
  hardlink = BL_ENTRY_HARDLINK,
  lower_link = BL_ENTRY_LOWER_LINK,
  fifo = BL_ENTRY_FIFO,
  char_device = BL_ENTRY_CHAR_DEVICE,
  block_device = BL_ENTRY_BLOCK_DEVICE,
  whiteout = BL_ENTRY_WHITEOUT,
  opaque = BL_ENTRY_OPAQUE,
};

/// The entries of an extracted layer, one after the other.
class layer_entries : public detail::owner<bl_layer_entries, bl_layer_entries_free> {
 public:
  layer_entries() = default;
  explicit layer_entries(bl_layer_entries *raw) : owner(raw) {}

  /// nullptr at the end. What it points to is valid until the next call.
  result<const bl_layer_entry *> next() {
    entry_ = bl_layer_entry_init();
    bl_error *err = nullptr;
    if (bl_layer_entries_next(get(), &entry_, &err)) return detail::fail<const bl_layer_entry *>(err);
    return result<const bl_layer_entry *>(entry_.kind == BL_ENTRY_END ? nullptr : &entry_);
  }

 private:
  bl_layer_entry entry_ = BL_LAYER_ENTRY_INIT;
};

/// Holds objects without a name until its time.
class lease : public detail::owner<bl_lease, bl_lease_free> {
 public:
  lease() = default;
  explicit lease(bl_lease *raw) : owner(raw) {}

  const char *id() const noexcept { return bl_lease_id(get()); }
  result<void> hold(const text &digest) {
    bl_error *err = nullptr;
    bl_lease_hold(get(), digest.c_str(), &err);
    return detail::done(err);
  }
  result<void> extend(std::chrono::seconds time) {
    bl_error *err = nullptr;
    bl_lease_extend(get(), detail::seconds(time), &err);
    return detail::done(err);
  }
  /// Ends it. To let the object go is not to end it.
  result<void> release() {
    bl_error *err = nullptr;
    bl_lease_release(get(), &err);
    return detail::done(err);
  }
};

/// What a guest's init starts.
class process : public detail::owner<bl_process, bl_process_free> {
 public:
  process() = default;
  explicit process(bl_process *raw) : owner(raw) {}

  std::vector<std::string> args() const { return all(BL_PROCESS_ARG); }
  std::vector<std::string> env() const { return all(BL_PROCESS_ENV); }
  std::string cwd() const { return one(BL_PROCESS_CWD); }
  std::string home() const { return one(BL_PROCESS_HOME); }
  std::string stop_signal() const { return one(BL_PROCESS_STOP_SIGNAL); }
  /// The process object of an OCI runtime configuration.
  std::string runtime_json() const { return one(BL_PROCESS_RUNTIME_JSON); }
  /// Its list of groups is valid as long as this object.
  result<bl_process_user> user() const {
    bl_process_user user = bl_process_user_init();
    bl_error *err = nullptr;
    if (bl_process_get_user(get(), &user, &err)) return detail::fail<bl_process_user>(err);
    return result<bl_process_user>(user);
  }

 private:
  std::string one(uint32_t field) const {
    const char *found = bl_process_text(get(), field, 0);
    return found ? found : "";
  }
  std::vector<std::string> all(uint32_t field) const {
    std::vector<std::string> all;
    for (size_t i = 0; i < bl_process_text_count(get(), field); i++) all.emplace_back(bl_process_text(get(), field, i));
    return all;
  }
};

enum class image_field : uint32_t {
  name = BL_IMAGE_NAME,
  manifest_digest = BL_IMAGE_MANIFEST_DIGEST,
  config_digest = BL_IMAGE_CONFIG_DIGEST,
  config_json = BL_IMAGE_CONFIG_JSON,
  created = BL_IMAGE_CREATED,
  architecture = BL_IMAGE_ARCHITECTURE,
  variant = BL_IMAGE_VARIANT,
  os = BL_IMAGE_OS,
  entrypoint = BL_IMAGE_ENTRYPOINT,
  cmd = BL_IMAGE_CMD,
  env = BL_IMAGE_ENV,
  working_dir = BL_IMAGE_WORKING_DIR,
  user = BL_IMAGE_USER,
  stop_signal = BL_IMAGE_STOP_SIGNAL,
  exposed_port = BL_IMAGE_EXPOSED_PORT,
  volume = BL_IMAGE_VOLUME,
  label_key = BL_IMAGE_LABEL_KEY,
  label_value = BL_IMAGE_LABEL_VALUE,
  missing = BL_IMAGE_MISSING,
  index_digest = BL_IMAGE_INDEX_DIGEST,
  familiar_name = BL_IMAGE_FAMILIAR_NAME,
};

class image : public detail::owner<bl_image, bl_image_free> {
 public:
  image() = default;
  explicit image(bl_image *raw) : owner(raw) {}

  /// nullptr where there is none of that number. Valid as long as this object.
  const char *text(image_field field, size_t index = 0) const noexcept {
    return bl_image_text(get(), static_cast<uint32_t>(field), index);
  }
  size_t text_count(image_field field) const noexcept { return bl_image_text_count(get(), static_cast<uint32_t>(field)); }
  std::vector<std::string> texts(image_field field) const {
    std::vector<std::string> all;
    for (size_t i = 0; i < text_count(field); i++) all.emplace_back(text(field, i));
    return all;
  }
  std::string manifest_digest() const {
    const char *found = text(image_field::manifest_digest);
    return found ? found : "";
  }
  size_t layer_count() const noexcept { return bl_image_layer_count(get()); }
  /// Its strings are valid as long as this object.
  result<bl_image_layer_info> layer(size_t index) const {
    bl_image_layer_info layer = bl_image_layer_info_init();
    bl_error *err = nullptr;
    if (bl_image_layer(get(), index, &layer, &err)) return detail::fail<bl_image_layer_info>(err);
    return result<bl_image_layer_info>(layer);
  }
  /// `rootfs` is its assembled root file system, in which its users are looked up.
  result<boxlite::process> process(const boxlite::text &rootfs) const {
    bl_process *out = nullptr;
    bl_error *err = nullptr;
    if (bl_image_process(nullptr, get(), rootfs.c_str(), &out, &err)) return detail::fail<boxlite::process>(err);
    return result<boxlite::process>(boxlite::process(out));
  }
};

/// A pull that runs by itself.
class pull_operation : public detail::owner<bl_op, bl_op_free> {
 public:
  pull_operation() = default;
  explicit pull_operation(bl_op *raw) : owner(raw) {}

  /// Readable when it is over.
  int fd() const noexcept { return bl_op_fd(get()); }
  /// Whether it is over; less than zero waits without an end.
  result<bool> wait(duration timeout = duration(-1)) const {
    return detail::bool_of([&](bool *out, bl_error **err) { return bl_op_wait(get(), timeout.count(), out, err); });
  }
  result<pull_progress> progress() const {
    bl_pull_progress raw = bl_pull_progress_init();
    bl_error *err = nullptr;
    if (bl_op_progress(get(), &raw, &err)) return detail::fail<pull_progress>(err);
    return result<pull_progress>(pull_progress(raw));
  }
  void cancel() noexcept { bl_op_cancel(get()); }
  /// How it ended. Once.
  result<image> finish() {
    bl_image *out = nullptr;
    bl_error *err = nullptr;
    if (bl_op_finish(get(), &out, &err)) return detail::fail<image>(err);
    return result<image>(image(out));
  }
};

/// A file that is a part of a disk, or all of it.
struct disk_part {
  std::string path;
  /// Where on the device it begins, and how much of the device it has, from its beginning on.
  uint64_t offset_bytes = 0, length_bytes = 0;
};

/// A disk of an image.
struct disk {
  /// The file to attach, and what a VMM calls its format: "raw" or "vmdk".
  std::string path, format;
  /// As mount(2) calls it.
  std::string file_system;
  std::string uuid;
  /// A digest of everything that its bytes depend on.
  std::string key;
  /// For a Linux guest whose first virtio disk it is; empty for an empty disk.
  std::string kernel_args;
  /// What a guest verifies it by: the root of the hashes, and the table for dmsetup. Empty without disk_options::verity.
  std::string root_hash, verity_table;
  /// Of the device; and what its files take.
  uint64_t size_bytes = 0, allocated_bytes = 0;
  uint64_t entries = 0;
  uint64_t anomalies = 0;
  /// The store kept it already.
  bool cached = false;
  /// In the order of the device.
  std::vector<disk_part> parts;
};

/// An image that was made of another one.
struct committed_image {
  boxlite::image image;
  /// Of its new layer, and of what was left out of that: sockets, and directories on which another file system is mounted.
  uint64_t entries, sockets, other_file_systems;
};

/// A disk that the store keeps.
struct kept_disk {
  boxlite::disk disk;
  /// Holds the disk: to be extended as long as a guest has it, and released after that.
  boxlite::lease lease;
};

namespace detail {
inline const char *or_empty(const char *text) { return text ? text : ""; }

inline result<disk> take(bl_disk *raw) {
  std::unique_ptr<bl_disk, void (*)(bl_disk *)> owned(raw, bl_disk_free);
  bl_error *err = nullptr;
  bl_disk_info info = bl_disk_info_init();
  if (bl_disk_get_info(raw, &info, &err)) return fail<disk>(err);
  disk made{bl_disk_text(raw, BL_DISK_TEXT_PATH), bl_disk_text(raw, BL_DISK_TEXT_FORMAT),
            bl_disk_text(raw, BL_DISK_TEXT_FILE_SYSTEM), bl_disk_text(raw, BL_DISK_TEXT_UUID),
            bl_disk_text(raw, BL_DISK_TEXT_KEY), or_empty(bl_disk_text(raw, BL_DISK_TEXT_KERNEL_ARGS)),
            or_empty(bl_disk_text(raw, BL_DISK_TEXT_ROOT_HASH)), or_empty(bl_disk_text(raw, BL_DISK_TEXT_VERITY_TABLE)),
            info.size_bytes, info.allocated_bytes, info.entries, info.anomalies, info.cached != 0, {}};
  for (size_t i = 0; i < info.parts; i++) {
    bl_disk_part part = bl_disk_part_init();
    if (bl_disk_get_part(raw, i, &part, &err)) return fail<disk>(err);
    made.parts.push_back({part.path, part.offset_bytes, part.length_bytes});
  }
  return result<disk>(std::move(made));
}
}  // namespace detail

/// Lower directories of an overlay mount.
struct overlay {
  /// "lowerdir=..."; relative to mount_dir, unless that is empty.
  std::string mount_options;
  /// The directory to mount from; empty where the options have absolute paths. chdir() is of all threads.
  std::string mount_dir;
  /// Absolute, the uppermost first; for fsconfig(2).
  std::vector<std::string> lower_dirs;
  /// Holds the layers: to be extended as long as they are mounted, and released after that.
  boxlite::lease lease;
};

class storage;

/// A layout's folder that is used where it is.
struct bundle;

// The store -----------------------------------------------------------------------------------------------------------

class storage : public detail::owner<bl_storage, bl_storage_close> {
 public:
  storage() = default;
  explicit storage(bl_storage *raw) : owner(raw) {}

  static result<storage> open(const text &images_dir, const storage_options &o = {}) {
    bl_storage_options c = bl_storage_options_init();
    c.flags = detail::flag(o.read_only, BL_STORAGE_READ_ONLY) | detail::flag(o.single_process, BL_STORAGE_SINGLE_PROCESS);
    c.max_blob_bytes = o.max_blob_bytes;
    c.durability = static_cast<uint32_t>(o.durability);
    c.min_free_bytes = o.min_free_bytes;
    c.gc_above_bytes = o.gc_above_bytes;
    c.gc_min_age_seconds = detail::seconds(o.gc_min_age);
    bl_storage *out = nullptr;
    bl_error *err = nullptr;
    if (bl_storage_open(images_dir.c_str(), &c, &out, &err)) return detail::fail<storage>(err);
    return result<storage>(storage(out));
  }
  /// Closes it now.
  void close() noexcept { raw_.reset(); }

  result<std::string> images_dir() const { return path(bl_images_dir); }
  result<std::string> layers_dir() const { return path(bl_layers_dir); }

  // Manifests and configs
  result<void> save_manifest(const text &digest, std::string_view json) {
    bl_error *err = nullptr;
    bl_save_manifest(get(), digest.c_str(), json.data(), json.size(), &err);
    return detail::done(err);
  }
  result<std::string> load_manifest(const text &digest) const { return path(bl_load_manifest, digest); }
  result<bool> has_manifest(const text &digest) const { return has(bl_has_manifest, digest); }
  result<std::string> manifest_path(const text &digest) const { return path(bl_manifest_path, digest); }
  result<staged> stage_config(const text &digest) {
    bl_staged *out = nullptr;
    bl_error *err = nullptr;
    if (bl_stage_config(get(), digest.c_str(), &out, &err)) return detail::fail<staged>(err);
    return result<staged>(staged(out));
  }
  result<std::string> load_config(const text &digest) const { return path(bl_load_config, digest); }
  result<bool> has_config(const text &digest) const { return has(bl_has_config, digest); }
  result<std::string> config_path(const text &digest) const { return path(bl_config_path, digest); }

  // Layers
  /// A size of 0 or less is not known.
  result<staged> stage_layer(const text &digest, int64_t expected_size = 0) {
    bl_staged *out = nullptr;
    bl_error *err = nullptr;
    if (bl_stage_layer(get(), digest.c_str(), expected_size, &out, &err)) return detail::fail<staged>(err);
    return result<staged>(staged(out));
  }
  result<bool> has_layer(const text &digest) const { return has(bl_has_layer, digest); }
  result<bool> verify_blobs_exist(const std::vector<std::string> &digests) const {
    std::vector<const char *> pointers;
    for (const std::string &digest : digests) pointers.push_back(digest.c_str());
    auto call = [&](bool *out, bl_error **err) {
      return bl_verify_blobs_exist(get(), pointers.data(), pointers.size(), out, err);
    };
    return detail::bool_of(call);
  }
  result<void> verify_layer(const text &digest, const verify_options &o = {}) const {
    bl_verify_options c = bl_verify_options_init();
    c.cancel = o.cancel.get();
    c.timeout_ms = detail::ms(o.timeout);
    bl_error *err = nullptr;
    bl_verify_layer(get(), digest.c_str(), &c, &err);
    return detail::done(err);
  }
  result<std::string> layer_tarball_path(const text &digest) const { return path(bl_layer_tarball_path, digest); }
  result<std::string> layer_extracted_path(const text &digest) const { return path(bl_layer_extracted_path, digest); }
  result<extract_result> extract_layer(const text &digest, const extract_options &o = {}) {
    const auto options = detail::c_options(o);
    extract_result out = bl_extract_result_init();
    bl_error *err = nullptr;
    if (bl_extract_layer(get(), digest.c_str(), &options.c, &out, &err)) return detail::fail<extract_result>(err);
    return result<extract_result>(out);
  }
  result<std::string> extracted_path(const text &digest, const tree_options &o = {}) const {
    bl_tree_options c = detail::c_options(o);
    auto call = [&](bl_bytes **out, bl_error **err) { return bl_extracted_path(get(), digest.c_str(), &c, out, err); };
    return detail::string_of(call);
  }
  result<boxlite::layer_entries> layer_entries(const text &digest, const tree_options &o = {}) const {
    bl_tree_options c = detail::c_options(o);
    bl_layer_entries *out = nullptr;
    bl_error *err = nullptr;
    if (bl_layer_entries_open(get(), digest.c_str(), &c, &out, &err)) return detail::fail<boxlite::layer_entries>(err);
    return result<boxlite::layer_entries>(boxlite::layer_entries(out));
  }

  // Images
  result<void> tag_image(const text &name, const text &manifest_digest) {
    bl_error *err = nullptr;
    bl_tag_image(get(), name.c_str(), manifest_digest.c_str(), &err);
    return detail::done(err);
  }
  result<void> remove_image(const text &name) {
    bl_error *err = nullptr;
    bl_remove_image(get(), name.c_str(), &err);
    return detail::done(err);
  }
  result<std::vector<std::string>> images() const {
    bl_names *out = nullptr;
    bl_error *err = nullptr;
    if (bl_image_list(get(), &out, &err)) return detail::fail<std::vector<std::string>>(err);
    return result<std::vector<std::string>>(detail::take(out));
  }
  /// By name, or by its manifest's digest.
  result<image> open_image(const text &name) const {
    bl_image *out = nullptr;
    bl_error *err = nullptr;
    if (bl_image_open(get(), name.c_str(), &out, &err)) return detail::fail<image>(err);
    return result<image>(image(out));
  }
  result<image_usage> usage_of(const image &of) const {
    image_usage out = bl_image_usage_init();
    bl_error *err = nullptr;
    if (bl_image_get_usage(get(), of.get(), &out, &err)) return detail::fail<image_usage>(err);
    return result<image_usage>(out);
  }
  result<image> pull(const text &reference, const pull_options &o = {}) {
    detail::pull_frame frame(o);
    bl_image *out = nullptr;
    bl_error *err = nullptr;
    if (bl_pull(get(), reference.c_str(), &frame.c, &out, &err)) return detail::fail<image>(err);
    return result<image>(image(out));
  }
  /// Without on_progress, which has no thread there.
  result<pull_operation> start_pull(const text &reference, const pull_options &o = {}) {
    detail::pull_frame frame(o);
    bl_op *out = nullptr;
    bl_error *err = nullptr;
    if (bl_pull_start(get(), reference.c_str(), &frame.c, &out, &err)) return detail::fail<pull_operation>(err);
    return result<pull_operation>(pull_operation(out));
  }

  // Archives
  /// What open_image() takes for each image.
  result<std::vector<std::string>> import(const text &path, const import_options &o = {}) {
    const auto options = detail::c_options(o);
    bl_names *out = nullptr;
    bl_error *err = nullptr;
    if (bl_import(get(), path.c_str(), &options.c, &out, &err)) return detail::fail<std::vector<std::string>>(err);
    return result<std::vector<std::string>>(detail::take(out));
  }
  result<std::vector<std::string>> import(int fd, const import_options &o = {}) {
    const auto options = detail::c_options(o);
    bl_names *out = nullptr;
    bl_error *err = nullptr;
    if (bl_import_fd(get(), fd, &options.c, &out, &err)) return detail::fail<std::vector<std::string>>(err);
    return result<std::vector<std::string>>(detail::take(out));
  }
  inline result<bundle> open_bundle(const text &bundle_path, const import_options &o = {});
  result<std::string> local_bundle_cache_dir(const text &bundle_path, const text &manifest_digest) const {
    return detail::string_of([&](bl_bytes **out, bl_error **err) {
      return bl_local_bundle_cache_dir(get(), bundle_path.c_str(), manifest_digest.c_str(), out, err);
    });
  }
  result<void> export_images(const std::vector<const image *> &images, const text &path, const export_options &o = {}) const {
    bl_export_options c = detail::c_options(o);
    std::vector<bl_image *> raw = raw_images(images);
    bl_error *err = nullptr;
    bl_export(get(), raw.data(), raw.size(), path.c_str(), &c, &err);
    return detail::done(err);
  }
  result<void> export_images(const std::vector<const image *> &images, int fd, const export_options &o = {}) const {
    bl_export_options c = detail::c_options(o);
    std::vector<bl_image *> raw = raw_images(images);
    bl_error *err = nullptr;
    bl_export_fd(get(), raw.data(), raw.size(), fd, &c, &err);
    return detail::done(err);
  }

  // Root file systems
  result<rootfs_result> assemble_rootfs(const image &of, const text &destination, const rootfs_options &o = {}) {
    const auto options = detail::c_options(o);
    rootfs_result out = bl_rootfs_result_init();
    bl_error *err = nullptr;
    if (bl_assemble_rootfs(get(), of.get(), destination.c_str(), &options.c, &out, &err)) return detail::fail<rootfs_result>(err);
    return result<rootfs_result>(out);
  }
  result<overlay> prepare_overlay(const image &of, const overlay_options &o = {}) {
    const auto options = detail::c_options(o);
    bl_overlay *out = nullptr;
    bl_lease *held = nullptr;
    bl_error *err = nullptr;
    if (bl_prepare_overlay(get(), of.get(), &options.c, &out, &held, &err)) return detail::fail<overlay>(err);
    boxlite::lease owned_lease(held);
    std::unique_ptr<bl_overlay, void (*)(bl_overlay *)> owned(out, bl_overlay_free);
    overlay made{bl_overlay_mount_options(out), "", {}, std::move(owned_lease)};
    if (const char *dir = bl_overlay_mount_dir(out)) made.mount_dir = dir;
    for (size_t i = 0; i < bl_overlay_lower_dir_count(out); i++) made.lower_dirs.emplace_back(bl_overlay_lower_dir(out, i));
    return result<overlay>(std::move(made));
  }

  /// Makes a disk of an image, a file or with disk_layout::merged a directory.
  result<disk> create_disk(const image &of, const text &destination, const disk_options &o = {}) {
    const detail::disk_frame options(o);
    bl_disk *out = nullptr;
    bl_error *err = nullptr;
    if (bl_create_disk(get(), of.get(), destination.c_str(), &options.c, &out, &err)) return detail::fail<disk>(err);
    return detail::take(out);
  }
  /// Makes an ext4 without content, for a guest that writes. The options say its size.
  result<disk> format_disk(const text &destination, const disk_options &o) { return format(nullptr, destination, o); }
  /// The writable layer over a disk of an image, with the directories upper and work.
  result<disk> format_disk(const image &over, const text &destination, const disk_options &o) {
    return format(over.get(), destination, o);
  }
  /// As create_disk(), in the store; one that is there is found again.
  result<kept_disk> keep_disk(const image &of, const disk_options &o = {}) {
    const detail::disk_frame options(o);
    bl_disk *out = nullptr;
    bl_lease *held = nullptr;
    bl_error *err = nullptr;
    if (bl_keep_disk(get(), of.get(), &options.c, &out, &held, &err)) return detail::fail<kept_disk>(err);
    boxlite::lease owned_lease(held);
    result<disk> made = detail::take(out);
    if (!made) return result<kept_disk>(made.error());
    return result<kept_disk>(kept_disk{std::move(*made), std::move(owned_lease)});
  }
  // What was changed
  /// Makes an image of what was changed: the base's layers, and one layer more.
  result<committed_image> commit_image(const image &base, commit_source kind, const text &path, const commit_options &o = {}) {
    return commit(base.get(), kind, path, o);
  }
  /// The same without a base: the layer is the first.
  result<committed_image> commit_image(commit_source kind, const text &path, const commit_options &o = {}) {
    return commit(nullptr, kind, path, o);
  }
  /// Makes one layer of all from one on, counted from 0 at the bottom.
  result<committed_image> squash_image(const image &of, size_t from_layer = 0, const commit_options &o = {}) {
    return committed(o, [&](const bl_commit_options *c, bl_image **out, bl_error **err) {
      return bl_squash_image(get(), of.get(), from_layer, c, out, err);
    });
  }
  /// Makes an image with the same layers, and another config or annotations.
  result<committed_image> edit_image(const image &of, const commit_options &o) {
    return committed(o, [&](const bl_commit_options *c, bl_image **out, bl_error **err) {
      return bl_edit_image(get(), of.get(), c, out, err);
    });
  }

  /// What starts an image's program, with its user looked up in the disks of its layers.
  result<boxlite::process> process(const image &of) const {
    bl_process *out = nullptr;
    bl_error *err = nullptr;
    if (bl_image_process(get(), of.get(), nullptr, &out, &err)) return detail::fail<boxlite::process>(err);
    return result<boxlite::process>(boxlite::process(out));
  }

  // Upkeep
  result<lease> create_lease(std::chrono::seconds time) {
    bl_lease *out = nullptr;
    bl_error *err = nullptr;
    if (bl_lease_create(get(), detail::seconds(time), &out, &err)) return detail::fail<lease>(err);
    return result<lease>(lease(out));
  }
  result<lease> open_lease(const text &id) const {
    bl_lease *out = nullptr;
    bl_error *err = nullptr;
    if (bl_lease_open(get(), id.c_str(), &out, &err)) return detail::fail<lease>(err);
    return result<lease>(lease(out));
  }
  result<gc_result> gc(const gc_options &o = {}) {
    bl_gc_options c = bl_gc_options_init();
    c.flags = detail::flag(o.dry_run, BL_GC_DRY_RUN) | detail::flag(o.any_age, BL_GC_ANY_AGE);
    c.min_age_seconds = detail::seconds(o.min_age);
    c.max_disk_idle_seconds = detail::seconds(o.max_disk_idle);
    c.cancel = o.cancel.get();
    c.timeout_ms = detail::ms(o.timeout);
    using frame = detail::told<decltype(gc_options::on_removed)>;
    frame removed{o.on_removed};
    if (o.on_removed) {
      c.on_removed = [](const char *object, void *data) { static_cast<frame *>(data)->tell(object); };
      c.on_removed_data = &removed;
    }
    gc_result out = bl_gc_result_init();
    bl_error *err = nullptr;
    result<gc_result> ended = bl_gc(get(), &c, &out, &err) ? detail::fail<gc_result>(err) : result<gc_result>(out);
    removed.rethrow();
    return ended;
  }
  result<check_result> check(const check_options &o = {}) {
    bl_check_options c = bl_check_options_init();
    c.flags = detail::flag(o.repair, BL_CHECK_REPAIR) | detail::flag(o.skip_trees, BL_CHECK_SKIP_TREES);
    c.bytes_per_second = o.bytes_per_second;
    c.cancel = o.cancel.get();
    c.timeout_ms = detail::ms(o.timeout);
    using frame = detail::told<decltype(check_options::on_finding)>;
    frame findings{o.on_finding};
    if (o.on_finding) {
      c.on_finding = [](const bl_finding *found, void *data) { static_cast<frame *>(data)->tell(*found); };
      c.on_finding_data = &findings;
    }
    check_result out = bl_check_result_init();
    bl_error *err = nullptr;
    result<check_result> ended = bl_check(get(), &c, &out, &err) ? detail::fail<check_result>(err) : result<check_result>(out);
    findings.rethrow();
    return ended;
  }
  result<boxlite::disk_usage> disk_usage() const {
    boxlite::disk_usage out = bl_disk_usage_result_init();
    bl_error *err = nullptr;
    if (bl_disk_usage(get(), &out, &err)) return detail::fail<boxlite::disk_usage>(err);
    return result<boxlite::disk_usage>(out);
  }

 private:
  result<disk> format(const bl_image *over, const text &destination, const disk_options &o) {
    const detail::disk_frame options(o);
    bl_disk *out = nullptr;
    bl_error *err = nullptr;
    if (bl_format_disk(get(), over, destination.c_str(), &options.c, &out, &err)) return detail::fail<disk>(err);
    return detail::take(out);
  }

  template <typename Call>
  result<committed_image> committed(const commit_options &o, Call call) {
    const detail::commit_frame options(o);
    bl_image *out = nullptr;
    bl_error *err = nullptr;
    if (call(&options.c, &out, &err)) return detail::fail<committed_image>(err);
    const bl_commit_counts &counts = options.counts;
    return result<committed_image>(committed_image{image(out), counts.entries, counts.sockets, counts.other_file_systems});
  }
  result<committed_image> commit(const bl_image *base, commit_source kind, const text &path, const commit_options &o) {
    bl_commit_source source = bl_commit_source_init();
    source.kind = static_cast<uint32_t>(kind);
    source.path = path.c_str();
    return committed(o, [&](const bl_commit_options *c, bl_image **out, bl_error **err) {
      return bl_commit_image(get(), base, &source, c, out, err);
    });
  }

  result<std::string> path(bl_status (*call)(const bl_storage *, bl_bytes **, bl_error **)) const {
    return detail::string_of([&](bl_bytes **out, bl_error **err) { return call(get(), out, err); });
  }
  result<std::string> path(bl_status (*call)(const bl_storage *, const char *, bl_bytes **, bl_error **), const text &digest) const {
    return detail::string_of([&](bl_bytes **out, bl_error **err) { return call(get(), digest.c_str(), out, err); });
  }
  result<bool> has(bl_status (*call)(const bl_storage *, const char *, bool *, bl_error **), const text &digest) const {
    return detail::bool_of([&](bool *out, bl_error **err) { return call(get(), digest.c_str(), out, err); });
  }
  static std::vector<bl_image *> raw_images(const std::vector<const image *> &images) {
    std::vector<bl_image *> raw;
    for (const image *of : images) raw.push_back(of ? of->get() : nullptr);
    return raw;
  }
};

struct bundle {
  /// The image is used with this store.
  boxlite::storage storage;
  /// What its open_image() takes.
  std::vector<std::string> names;
};

inline result<bundle> storage::open_bundle(const text &bundle_path, const import_options &o) {
  const auto options = detail::c_options(o);
  bl_storage *out = nullptr;
  bl_names *names = nullptr;
  bl_error *err = nullptr;
  if (bl_bundle_open(get(), bundle_path.c_str(), &options.c, &out, &names, &err)) return detail::fail<bundle>(err);
  return result<bundle>(bundle{storage(out), detail::take(names)});
}

}  // namespace boxlite

#endif
