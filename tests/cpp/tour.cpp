// Every part of boxlite_images.hpp on a real layout: tour STORE LAYOUT. Prints what it says on failure only.
#include "boxlite_images.hpp"

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <type_traits>

#include <fcntl.h>
#include <unistd.h>

#define CHECK(condition)                                                      \
  do {                                                                        \
    if (!(condition)) {                                                       \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);    \
      std::_Exit(1);                                                          \
    }                                                                         \
  } while (0)

namespace fs = std::filesystem;
using boxlite::status;

static_assert(!std::is_copy_constructible_v<boxlite::storage> && std::is_nothrow_move_constructible_v<boxlite::storage>);
static_assert(!std::is_copy_constructible_v<boxlite::staged> && !std::is_copy_constructible_v<boxlite::image>);
static_assert(std::is_copy_constructible_v<boxlite::cancel> && std::is_copy_constructible_v<boxlite::error>);

// The value, or the end with what went wrong.
template <class T>
static auto must(boxlite::result<T> result, int line)
{
  if (!result.has_value()) {
    std::fprintf(stderr, "%s:%d: %s\n", __FILE__, line, result.error().message());
    std::_Exit(1);
  }
  return std::move(*result);
}
#define MUST(call) must((call), __LINE__)

static void errors(boxlite::storage &store)
{
  auto missing = store.load_manifest("sha256:" + std::string(64, '0'));
  CHECK(!missing && missing.code() == status::not_found && !missing.error().is_retryable());
  CHECK(std::strcmp(boxlite::name(missing.code()), "NOT_FOUND") == 0 && std::strlen(missing.error().message()) > 0);
  CHECK(std::move(missing).value_or("none") == "none");
  CHECK(store.load_manifest(std::string("sha256:\0x", 9)).code() == status::invalid_argument);
  CHECK(boxlite::storage::open(std::string_view("a\0b", 3)).code() == status::invalid_argument);
  // Empty and moved-from objects are errors, as NULL is in C.
  boxlite::storage empty;
  CHECK(!empty && empty.images_dir().code() == status::invalid_argument);
  CHECK(boxlite::staged().write("x").code() == status::invalid_argument);
  boxlite::staged staged = MUST(store.stage_layer("sha256:" + std::string(64, 'a'), 3));
  boxlite::staged moved = std::move(staged);
  CHECK(staged.commit().code() == status::invalid_argument && moved.write("abc") && moved.bytes_written() == 3);
  auto wrong = moved.commit();
  CHECK(wrong.code() == status::digest_mismatch);
  boxlite::error copy = wrong.error();
  CHECK(std::string(copy.expected_digest()) != copy.actual_digest() && copy.http_status() == 0 && !*copy.registry_code());
  CHECK(moved.commit().code() == status::state && copy.os_errno() == 0);
#if BOXLITE_HAS_EXCEPTIONS
  bool thrown = false;
  try {
    store.load_config("sha256:" + std::string(64, '0')).value();
  } catch (const boxlite::exception &e) {
    thrown = e.error().code() == status::not_found && std::strcmp(e.what(), e.error().message()) == 0;
  }
  CHECK(thrown);
#endif
}

static void blobs(boxlite::storage &store, const boxlite::image &image)
{
  std::string manifest = image.manifest_digest(), config = image.text(boxlite::image_field::config_digest);
  CHECK(MUST(store.has_manifest(manifest)) && MUST(store.has_config(config)));
  std::string json = MUST(store.load_manifest(manifest));
  CHECK(store.save_manifest(manifest, json) && fs::exists(MUST(store.manifest_path(manifest))));
  std::string bytes = MUST(store.load_config(config));
  boxlite::staged staged = MUST(store.stage_config(config));
#if defined(__cpp_lib_span)
  CHECK(staged.write(std::as_bytes(std::span(bytes))));
#else
  CHECK(staged.write(bytes));
#endif
  CHECK(fs::exists(MUST(staged.staged_path())) && MUST(staged.final_path()) == MUST(store.config_path(config)));
  CHECK(staged.commit() && staged.abort().code() == status::state);
  CHECK(MUST(store.verify_blobs_exist({})));
}

static void layers(boxlite::storage &store, const boxlite::image &image)
{
  bl_image_layer_info info = MUST(image.layer(1));
  CHECK(image.layer_count() == 2 && !image.layer(2));
  std::string digest = info.digest;
  CHECK(MUST(store.has_layer(digest)) && store.verify_layer(digest) && MUST(store.verify_blobs_exist({digest})));
  CHECK(fs::exists(MUST(store.layer_tarball_path(digest))));
  boxlite::extract_options options;
  options.diff_id = info.diff_id;
  CHECK(MUST(store.extract_layer(digest, options)).cached);
  options.tree.whiteouts = boxlite::whiteouts::overlay;
  options.tree.limits.emplace().entries = 1000;
  uint64_t entries = 0;
  options.on_progress = [&](const boxlite::progress &p) { return entries = p.entries, true; };
  boxlite::extract_result extracted = MUST(store.extract_layer(digest, options));
  CHECK(!extracted.cached && extracted.entries == 1 && entries == 1 && std::string(extracted.diff_id) == info.diff_id);
  CHECK(MUST(store.extracted_path(digest, options.tree)) != MUST(store.layer_extracted_path(digest)));
  boxlite::layer_entries list = MUST(store.layer_entries(digest, options.tree));
  size_t files = 0;
  while (const bl_layer_entry *entry = MUST(list.next())) files += entry->kind == static_cast<uint32_t>(boxlite::entry_kind::file);
  CHECK(files == 1);
  options.tree.whiteouts = boxlite::whiteouts::user_overlay;
  options.on_progress = [](const boxlite::progress &) { return false; };
  CHECK(store.extract_layer(digest, options).code() == status::callback);
#if BOXLITE_HAS_EXCEPTIONS
  options.on_progress = [](const boxlite::progress &) -> bool { throw 1; };
  CHECK(store.extract_layer(digest, options).code() == status::callback);
#endif
  options.on_progress = nullptr;
  options.cancel = MUST(boxlite::cancel::make());
  boxlite::cancel same = options.cancel;
  same.trigger();
  CHECK(options.cancel.is_triggered() && store.extract_layer(digest, options).code() == status::cancelled);
  options.cancel = boxlite::cancel();
  options.tree.limits->entries = 0;
  options.tree.limits->name_component_bytes = 1;
  CHECK(store.extract_layer(digest, options).code() == status::limit);
}

static void files(boxlite::storage &store, const boxlite::image &image, const fs::path &work, const fs::path &layout)
{
  boxlite::export_options exporting;
  CHECK(store.export_images({&image}, work / "out.tar", exporting));
  exporting.folder = true;
  CHECK(store.export_images({&image}, work / "out", exporting));
  int fd = open((work / "piped.tar").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  CHECK(store.export_images({&image}, fd));
  CHECK(lseek(fd, 0, SEEK_SET) == 0);
  boxlite::storage other = MUST(boxlite::storage::open(work / "other"));
  CHECK(MUST(other.import(fd)).size() == 1 && close(fd) == 0);
  boxlite::import_options importing;
  importing.name = "b.org/y:2";
  importing.hard_link = true;
  CHECK(MUST(other.import(work / "out", importing)) == std::vector<std::string>{"b.org/y:2"});
  importing = {};
  importing.select = "c.org/none";
  CHECK(other.import(work / "out.tar", importing).code() == status::not_found);
  boxlite::bundle bundle = MUST(store.open_bundle(layout));
  CHECK(MUST(bundle.storage.images_dir()) == MUST(store.local_bundle_cache_dir(layout, image.manifest_digest())));
  CHECK(MUST(bundle.storage.open_image(bundle.names.at(0))).layer_count() == 2);

  boxlite::rootfs_options assembling;
  assembling.mode = boxlite::rootfs_mode::direct;
  assembling.record_path = (work / "record").string();
  CHECK(MUST(store.assemble_rootfs(image, work / "root", assembling)).layers == 2 && fs::exists(work / "root/two"));
  CHECK(store.assemble_rootfs(image, work / "root", assembling).code() != status::ok && fs::exists(work / "record"));
  assembling.replace = true;
  CHECK(store.assemble_rootfs(image, work / "root", assembling));
  boxlite::process process = MUST(image.process(work / "root"));
  CHECK(process.args() == std::vector<std::string>{"sh"} && process.cwd() == "/" && !process.env().empty());
  CHECK(MUST(process.user()).uid == 0 && process.runtime_json().find("\"args\"") != std::string::npos);
  CHECK(process.stop_signal() == "SIGTERM" || process.stop_signal().empty());
  boxlite::disk_options making;
  making.format = boxlite::disk_format::erofs;
  making.layout = boxlite::disk_layout::merged;
  making.label = "c++";
  boxlite::disk disk = MUST(store.create_disk(image, work / "disk", making));
  CHECK(disk.format == "vmdk" && disk.file_system == "erofs" && fs::exists(disk.path) && disk.parts.size() > 1);
  CHECK(disk.parts.back().offset_bytes + disk.parts.back().length_bytes == disk.size_bytes);
  CHECK(store.create_disk(image, work / "disk", making).code() == status::exists);
  CHECK(MUST(store.create_disk(image, work / "disk.img")).file_system == "ext4");
  boxlite::disk_options verified;
  verified.verity = true;
  verified.files.push_back({"/etc/from-host", "data"});
  verified.files.push_back({"/etc/link", "", "", "from-host", boxlite::disk_file::kinds::symlink});
  boxlite::disk with_root = MUST(store.create_disk(image, work / "verified.img", verified));
  CHECK(with_root.root_hash.size() == 64 && with_root.verity_table.find(with_root.root_hash) != std::string::npos);
  CHECK(disk.root_hash.empty() && disk.verity_table.empty());
  boxlite::disk_options empty;
  empty.size_bytes = 64 << 20;
  empty.journal_bytes = 0;
  CHECK(MUST(store.format_disk(work / "empty.img", empty)).size_bytes == 64 << 20);
  CHECK(MUST(store.format_disk(image, work / "upper.img", empty)).entries == 0);
  CHECK(store.format_disk(work / "none.img", {}).code() == status::invalid_argument);
  making.lease = std::chrono::minutes(1);
  fs::create_directories(work / "upper");
  std::ofstream(work / "upper" / "new") << "changed";
  boxlite::commit_options committing;
  committing.name = "example.org/changed:1";
  committing.epoch = std::chrono::seconds(1000000000);
  committing.changes.cmd.emplace();
  committing.changes.env = {"NEW=1"};
  committing.changes.labels = {"c=d"};
  committing.annotations = {"e=f"};
  boxlite::committed_image changed = MUST(store.commit_image(image, boxlite::commit_source::upper, work / "upper", committing));
  CHECK(changed.entries == 1 && changed.sockets == 0 && changed.image.layer_count() == image.layer_count() + 1);
  CHECK(changed.image.texts(boxlite::image_field::cmd).empty());
  CHECK(MUST(store.squash_image(changed.image)).image.layer_count() == 1);
  CHECK(MUST(store.edit_image(image, committing)).image.layer_count() == image.layer_count());
  CHECK(store.commit_image(boxlite::commit_source::tree, work / "none").code() == status::not_found);
  CHECK(bool(store.remove_image("example.org/changed:1")));
  boxlite::kept_disk kept = MUST(store.keep_disk(image, making));
  CHECK(!kept.disk.cached && fs::exists(kept.disk.path) && kept.lease.release());
  CHECK(MUST(store.keep_disk(image, making)).disk.cached && MUST(store.process(image)).cwd() == "/");
  boxlite::overlay_options mounting;
  if (getuid() != 0) mounting.tree.whiteouts = boxlite::whiteouts::user_overlay;
  mounting.lease = std::chrono::minutes(1);
  boxlite::overlay overlay = MUST(store.prepare_overlay(image, mounting));
  CHECK(overlay.mount_options.rfind("lowerdir=/", 0) == 0 && overlay.mount_dir.empty());
  CHECK(overlay.lower_dirs.size() == 2 && fs::exists(overlay.lower_dirs[1]) && overlay.lease.release());
}

static void upkeep(boxlite::storage &store, const boxlite::image &image)
{
  CHECK(MUST(store.images()) == std::vector<std::string>{"a.org/x:1"});
  CHECK(store.tag_image("d.org/z:3", image.manifest_digest()) && MUST(store.images()).size() == 2);
  boxlite::image same = MUST(store.open_image("d.org/z:3"));
  CHECK(std::string_view(same.text(boxlite::image_field::name)) == "d.org/z:3" && store.remove_image("d.org/z:3"));
  CHECK(MUST(store.usage_of(image)).compressed_bytes > 0 && same.texts(boxlite::image_field::cmd).size() == 1);
  boxlite::lease lease = MUST(store.create_lease(std::chrono::minutes(1)));
  CHECK(lease.hold(image.manifest_digest()) && lease.extend(std::chrono::minutes(2)));
  CHECK(MUST(store.open_lease(lease.id())).release());
  boxlite::disk_usage usage = MUST(store.disk_usage());
  CHECK(usage.layers >= 2 && usage.total_bytes > 0);
  size_t findings = 0;
  boxlite::check_options checking;
  checking.on_finding = [&](const boxlite::finding &) { findings++; };
  CHECK(MUST(store.check(checking)).damaged == 0 && findings == 0);
#if BOXLITE_HAS_EXCEPTIONS
  boxlite::gc_options throwing;
  throwing.dry_run = throwing.any_age = true;
  throwing.on_removed = [](const char *) { throw 7; };
  CHECK(store.create_lease(std::chrono::seconds(1)).value().release());
  boxlite::staged unreached = MUST(store.stage_layer("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
  CHECK(unreached.commit());
  int thrown = 0;
  try {
    (void)store.gc(throwing);
  } catch (int number) {
    thrown = number;
  }
  CHECK(thrown == 7);
#endif
  CHECK(store.remove_image("a.org/x:1"));
  std::vector<std::string> removed;
  boxlite::gc_options collecting;
  collecting.any_age = true;
  collecting.on_removed = [&](const char *object) { removed.emplace_back(object); };
  CHECK(MUST(store.gc(collecting)).removed == removed.size() && removed.size() > 3);
}

static void pulls(boxlite::storage &store)
{
  boxlite::pull_options options;
  options.policy = boxlite::pull_policy::never;
  CHECK(store.pull("a.org/none:1", options).code() == status::not_found);
  options.policy = boxlite::pull_policy::always;
  // Nobody listens there.
  boxlite::registry_options registry;
  registry.host = "127.0.0.1:1";
  registry.plain_http = true;
  registry.headers = {"X-One: 1", "X-Two: 2"};
  options.registries = {registry, registry};
  options.registries[1].host = "127.0.0.1:2";
  options.password = "without a user";
  CHECK(store.pull("127.0.0.1:1/x:1", options).code() == status::invalid_argument);
  options.password.clear();
  options.timeout = std::chrono::milliseconds(-1);
  CHECK(store.pull("127.0.0.1:1/x:1", options).code() == status::timeout);
  options.timeout = std::chrono::milliseconds(300);
  std::string asked;
  options.credentials = [&](const char *host, const char *) {
    asked = host;
    return std::optional<boxlite::credentials>({"user", "password"});
  };
  status code = store.pull("127.0.0.1:1/x:1", options).code();
  CHECK((code == status::network || code == status::timeout) && asked == "127.0.0.1:1");
  options.credentials = [](const char *, const char *) -> std::optional<boxlite::credentials> {
#if BOXLITE_HAS_EXCEPTIONS
    throw 1;
#else
    return std::nullopt;
#endif
  };
  boxlite::result<boxlite::pull_operation> started = store.start_pull("127.0.0.1:1/x:1", options);
#if BOXLITE_HAS_EXCEPTIONS
  CHECK(started.code() == status::callback);
  options.credentials = nullptr;
  started = store.start_pull("127.0.0.1:1/x:1", options);
#endif
  boxlite::pull_operation op = MUST(std::move(started));
  CHECK(op.fd() >= 0 && MUST(op.progress())->phase == BL_PULL_PHASE_RESOLVING);
  op.cancel();
  CHECK(MUST(op.wait()) && !op.finish() && op.finish().code() == status::state);
}

int main(int argc, char **argv)
{
  CHECK(argc == 3 && boxlite::version_number() == BL_VERSION_NUMBER);
  CHECK(std::string_view(boxlite::version_string()) == BL_VERSION_STRING && boxlite::has_feature(boxlite::feature::pull));
  fs::path work = argv[1], layout = argv[2];
  fs::create_directories(work);
  size_t lines = 0;
  CHECK(boxlite::set_log_callback(boxlite::log_level::debug, [&](boxlite::log_level, const char *) { lines++; }));
  {
    boxlite::storage_options options;
    options.durability = boxlite::durability::none;
    boxlite::storage store = MUST(boxlite::storage::open(work / "store", options));
    CHECK(MUST(store.layers_dir()) == MUST(store.images_dir()) + "/layers");
    boxlite::image image = MUST(store.open_image(MUST(store.import(layout)).at(0)));
    errors(store);
    blobs(store, image);
    layers(store, image);
    files(store, image, work, layout);
    pulls(store);
    upkeep(store, image);
    store.close();
    CHECK(!store && store.disk_usage().code() == status::invalid_argument);
  }
  CHECK(boxlite::set_log_callback(boxlite::log_level::off, nullptr) && lines > 0);
  CHECK(boxlite::shutdown(std::chrono::seconds(10)));
}
