/*
 * A host of release 0.1.0, which is not changed any more: it is compiled with the header beside it and must go on to run with every
 * later library of the same soname. It uses every function, every option struct with the size that it had, and every result.
 *
 *   program STORE LAYOUT     (a layout of one image called a.org/x:1)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boxlite_images.h"

#define CHECK(condition) \
  do { \
    if (!(condition)) { \
      fprintf(stderr, "0.1.0, line %d: %s\n", __LINE__, #condition); \
      exit(1); \
    } \
  } while (0)

#define OK(call) \
  do { \
    bl_status status_ = (call); \
    if (status_ != BL_OK) { \
      fprintf(stderr, "0.1.0, line %d: %s: %s\n", __LINE__, bl_status_name(status_), bl_error_message(err)); \
      exit(1); \
    } \
    CHECK(err == NULL); \
  } while (0)

#define FAILS(expected, call) \
  do { \
    CHECK((call) == (expected) && bl_error_status(err) == (expected) && bl_error_message(err)[0]); \
    bl_error_free(err); \
    err = NULL; \
  } while (0)

#define ABC "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define EMPTY "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"

static bl_error *err;
static int told, logged, found, removed;

static int32_t on_progress(const bl_progress *progress, void *data)
{
  CHECK(progress->struct_size >= sizeof(*progress) && data == &told);
  told++;
  return 0;
}

static void on_log(int32_t level, const char *message, void *data)
{
  CHECK(level >= BL_LOG_ERROR && level <= BL_LOG_TRACE && message[0] && data == &logged);
  logged++;
}

static void on_finding(const bl_finding *finding, void *data)
{
  CHECK(finding->struct_size >= sizeof(*finding) && finding->object[0] && finding->message[0] && data == &found);
  CHECK((finding->problem == BL_PROBLEM_DAMAGED || finding->problem == BL_PROBLEM_MISSING) && finding->quarantined == 0);
  found++;
}

static void on_removed(const char *object, void *data)
{
  CHECK(object[0] && data == &removed);
  removed++;
}

static int32_t on_pull_progress(const bl_pull_progress *progress, void *data)
{
  bl_layer_progress layer = BL_LAYER_PROGRESS_INIT;
  CHECK(progress->struct_size >= sizeof(*progress) && data == NULL);
  if (progress->layers) OK(bl_pull_layers_get(progress->each_layer, 0, &layer, &err));
  return 0;
}

static int32_t on_credentials(const char *host, const char *repository, bl_credentials *answer, void *data)
{
  CHECK(host[0] && repository[0] && data == NULL);
  OK(bl_credentials_set(answer, "user", "password", &err));
  return 0;
}

static void text_is(bl_bytes *bytes)
{
  CHECK(bl_bytes_len(bytes) > 0 && strlen(bl_bytes_str(bytes)) == bl_bytes_len(bytes));
  CHECK((const char *)bl_bytes_data(bytes) == bl_bytes_str(bytes));
  bl_bytes_free(bytes);
}

static void blobs(bl_storage *storage)
{
  static const char zeros[1024], manifest[] = "{\"schemaVersion\":2}";
  static const char *digests[] = {EMPTY};
  bl_verify_options verify = BL_VERIFY_OPTIONS_INIT;
  bl_staged *staged = NULL;
  bl_bytes *bytes = NULL;
  bool yes = false;
  OK(bl_stage_layer(storage, EMPTY, sizeof(zeros), &staged, &err));
  OK(bl_staged_path(staged, &bytes, &err));
  text_is(bytes);
  OK(bl_write(staged, zeros, sizeof(zeros), &err));
  CHECK(bl_staged_bytes_written(staged) == sizeof(zeros));
  OK(bl_commit(staged, &err));
  FAILS(BL_E_STATE, bl_abort(staged, &err));
  OK(bl_final_path(staged, &bytes, &err));
  text_is(bytes);
  bl_staged_free(staged);
  OK(bl_stage_layer(storage, ABC, -1, &staged, &err));
  OK(bl_write(staged, "xyz", 3, &err));
  CHECK(bl_commit(staged, &err) == BL_E_DIGEST_MISMATCH);
  CHECK(!strcmp(bl_error_expected_digest(err), ABC) && strlen(bl_error_actual_digest(err)) == strlen(ABC));
  CHECK(!bl_error_retryable(err) && !bl_error_os_errno(err) && !bl_error_http_status(err) && !bl_error_registry_code(err)[0]);
  bl_error_free(err);
  err = NULL;
  bl_staged_free(staged);
  OK(bl_stage_config(storage, ABC, &staged, &err));
  OK(bl_write(staged, "abc", 3, &err));
  OK(bl_commit(staged, &err));
  bl_staged_free(staged);
  OK(bl_load_config(storage, ABC, &bytes, &err));
  text_is(bytes);
  OK(bl_has_config(storage, ABC, &yes, &err));
  CHECK(yes);
  OK(bl_has_layer(storage, EMPTY, &yes, &err));
  CHECK(yes);
  OK(bl_verify_blobs_exist(storage, digests, 1, &yes, &err));
  CHECK(yes);
  OK(bl_has_manifest(storage, ABC, &yes, &err));
  CHECK(!yes);
  verify.timeout_ms = 60000;
  OK(bl_verify_layer(storage, EMPTY, &verify, &err));
  FAILS(BL_E_DIGEST_MISMATCH, bl_save_manifest(storage, ABC, manifest, sizeof(manifest) - 1, &err));
  FAILS(BL_E_NOT_FOUND, bl_load_manifest(storage, ABC, &bytes, &err));
  OK(bl_manifest_path(storage, ABC, &bytes, &err));
  text_is(bytes);
  OK(bl_config_path(storage, ABC, &bytes, &err));
  text_is(bytes);
  OK(bl_layer_tarball_path(storage, EMPTY, &bytes, &err));
  text_is(bytes);
  OK(bl_layer_extracted_path(storage, EMPTY, &bytes, &err));
  text_is(bytes);
  OK(bl_images_dir(storage, &bytes, &err));
  text_is(bytes);
  OK(bl_layers_dir(storage, &bytes, &err));
  text_is(bytes);
}

static void layers(bl_storage *storage, const char *digest)
{
  bl_extract_options options = BL_EXTRACT_OPTIONS_INIT;
  bl_extract_result result = BL_EXTRACT_RESULT_INIT;
  bl_layer_limits limits = BL_LAYER_LIMITS_INIT;
  bl_tree_options tree = BL_TREE_OPTIONS_INIT;
  bl_layer_entry entry = BL_LAYER_ENTRY_INIT;
  bl_layer_entries *entries = NULL;
  bl_cancel *cancel = NULL;
  bl_bytes *bytes = NULL;
  uint64_t n = 0;
  OK(bl_cancel_new(&cancel, &err));
  limits.entries = 1000;
  limits.zstd_window_log = 20;
  tree.flags = BL_TREE_STRICT;
  tree.whiteouts = BL_WHITEOUTS_MARKERS;
  tree.limits = &limits;
  options.tree = &tree;
  options.cancel = cancel;
  options.timeout_ms = 60000;
  options.progress = on_progress;
  options.progress_data = &told;
  OK(bl_extract_layer(storage, EMPTY, &options, &result, &err));
  CHECK(result.bytes_out == 1024 && !result.anomalies && !result.cached && !strcmp(result.diff_id, EMPTY) && told);
  OK(bl_extract_layer(storage, EMPTY, NULL, &result, &err));
  CHECK(result.cached == 1);
  OK(bl_extracted_path(storage, EMPTY, &tree, &bytes, &err));
  text_is(bytes);
  OK(bl_layer_entries_open(storage, digest, NULL, &entries, &err));
  for (;;) {
    OK(bl_layer_entries_next(entries, &entry, &err));
    if (entry.kind == BL_ENTRY_END) break;
    CHECK(entry.kind <= BL_ENTRY_OPAQUE && entry.path && entry.link && entry.mode <= 07777);
    n++;
  }
  CHECK(n > 0);
  bl_layer_entries_free(entries);
  CHECK(!bl_cancel_is_triggered(cancel));
  bl_cancel_trigger(cancel);
  CHECK(bl_cancel_is_triggered(cancel));
  FAILS(BL_E_CANCELLED, bl_extract_layer(storage, EMPTY, &options, &result, &err));
  bl_cancel_free(cancel);
}

static bl_image *imported(bl_storage *storage, const char *layout)
{
  bl_import_options options = BL_IMPORT_OPTIONS_INIT;
  bl_image_layer_info layer = BL_IMAGE_LAYER_INFO_INIT;
  bl_image_usage usage = BL_IMAGE_USAGE_INIT;
  bl_names *names = NULL;
  bl_image *image = NULL;
  options.progress = on_progress;
  options.progress_data = &told;
  OK(bl_import(storage, layout, &options, &names, &err));
  CHECK(bl_names_count(names) == 1 && !strcmp(bl_names_get(names, 0), "a.org/x:1") && !bl_names_get(names, 1));
  bl_names_free(names);
  OK(bl_image_open(storage, "a.org/x:1", &image, &err));
  CHECK(bl_image_text(image, BL_IMAGE_MANIFEST_DIGEST, 0) && !bl_image_text(image, BL_IMAGE_MISSING, 0));
  CHECK(bl_image_text_count(image, BL_IMAGE_MANIFEST_DIGEST) == 1);
  CHECK(bl_image_layer_count(image) > 0);
  OK(bl_image_layer(image, 0, &layer, &err));
  CHECK(layer.size_bytes > 0 && layer.diff_id && layer.media_type);
  OK(bl_image_get_usage(storage, image, &usage, &err));
  CHECK(usage.compressed_bytes > 0 && usage.tagged_seconds > 0);
  OK(bl_tag_image(storage, "a.org/y:2", bl_image_text(image, BL_IMAGE_MANIFEST_DIGEST, 0), &err));
  OK(bl_image_list(storage, &names, &err));
  CHECK(bl_names_count(names) == 2);
  bl_names_free(names);
  OK(bl_remove_image(storage, "a.org/y:2", &err));
  layers(storage, layer.digest);
  return image;
}

static void files(bl_storage *storage, bl_image *image, const char *store, const char *layout)
{
  bl_export_options to = BL_EXPORT_OPTIONS_INIT;
  bl_import_options from = BL_IMPORT_OPTIONS_INIT;
  bl_rootfs_options rootfs = BL_ROOTFS_OPTIONS_INIT;
  bl_rootfs_result made = BL_ROOTFS_RESULT_INIT;
  bl_overlay_options overlay = BL_OVERLAY_OPTIONS_INIT;
  bl_tree_options tree = BL_TREE_OPTIONS_INIT;
  bl_overlay *prepared = NULL;
  bl_process_user user = BL_PROCESS_USER_INIT;
  bl_process *process = NULL;
  bl_storage *bundle = NULL;
  bl_names *names = NULL;
  bl_bytes *bytes = NULL;
  bl_lease *lease = NULL;
  char path[4096];
  FILE *file;
  snprintf(path, sizeof(path), "%s.tar", store);
  OK(bl_export(storage, &image, 1, path, &to, &err));
  CHECK((file = fopen(path, "rb")) != NULL);
  OK(bl_import_fd(storage, fileno(file), &from, &names, &err));
  bl_names_free(names);
  fclose(file);
  CHECK((file = fopen(path, "wb")) != NULL);
  OK(bl_export_fd(storage, &image, 1, fileno(file), &to, &err));
  fclose(file);
  OK(bl_bundle_open(storage, layout, &from, &bundle, &names, &err));
  bl_names_free(names);
  bl_storage_close(bundle);
  OK(bl_local_bundle_cache_dir(storage, layout, ABC, &bytes, &err));
  text_is(bytes);
  snprintf(path, sizeof(path), "%s.root", store);
  rootfs.mode = BL_ROOTFS_MODE_DIRECT;
  rootfs.progress = on_progress;
  rootfs.progress_data = &told;
  OK(bl_assemble_rootfs(storage, image, path, &rootfs, &made, &err));
  CHECK(made.layers == bl_image_layer_count(image) && made.entries > 0);
  OK(bl_image_process(NULL, image, path, &process, &err));
  CHECK(bl_process_text_count(process, BL_PROCESS_ARG) > 0 && bl_process_text(process, BL_PROCESS_ARG, 0) && bl_process_text(process, BL_PROCESS_CWD, 0));
  OK(bl_process_get_user(process, &user, &err));
  CHECK(user.uid == 0 && user.gid == 0);
  bl_process_free(process);
  tree.whiteouts = BL_WHITEOUTS_USER_OVERLAY;
  overlay.tree = &tree;
  if (bl_prepare_overlay(storage, image, &overlay, &prepared, &lease, &err) == BL_OK) {
    CHECK(!strncmp(bl_overlay_mount_options(prepared), "lowerdir=", 9) && !bl_overlay_mount_dir(prepared));
    CHECK(bl_overlay_lower_dir_count(prepared) > 0 && bl_overlay_lower_dir(prepared, 0)[0] == '/');
    bl_overlay_free(prepared);
    OK(bl_lease_release(lease, &err));
    bl_lease_free(lease);
  }
  bl_error_free(err);
  err = NULL;
}

static void disks(bl_storage *storage, bl_image *image, const char *store)
{
  bl_disk_options making = BL_DISK_OPTIONS_INIT;
  bl_disk_info info = BL_DISK_INFO_INIT;
  bl_disk_part part = BL_DISK_PART_INIT;
  bl_disk *disk = NULL;
  bl_lease *lease = NULL;
  bl_process *process = NULL;
  bl_disk_file file = BL_DISK_FILE_INIT;
  const bl_disk_file *files[] = {&file, NULL};
  char path[4096];
  snprintf(path, sizeof(path), "%s.disk", store);
  making.format = BL_DISK_EROFS;
  making.layout = BL_DISK_LAYOUT_MERGED;
  making.label = "old";
  OK(bl_create_disk(storage, image, path, &making, &disk, &err));
  CHECK(!strcmp(bl_disk_text(disk, BL_DISK_TEXT_FORMAT), "vmdk") && bl_disk_text(disk, BL_DISK_TEXT_PATH)[0]);
  OK(bl_disk_get_info(disk, &info, &err));
  CHECK(info.size_bytes > 0 && info.entries > 0 && info.parts > 1);
  OK(bl_disk_get_part(disk, 1, &part, &err));
  CHECK(part.offset_bytes > 0 && part.length_bytes > 0 && part.path[0]);
  bl_disk_free(disk);
  OK(bl_keep_disk(storage, image, &making, &disk, &lease, &err));
  bl_disk_free(disk);
  making = bl_disk_options_init();
  making.flags = BL_DISK_FLAG_JOURNAL | BL_DISK_FLAG_GROWABLE | BL_DISK_FLAG_REPLACE;
  making.size_bytes = 64 << 20;
  snprintf(path, sizeof(path), "%s.empty", store);
  OK(bl_format_disk(storage, image, path, &making, &disk, &err));
  OK(bl_disk_get_info(disk, &info, &err));
  CHECK(info.size_bytes == making.size_bytes && !bl_disk_text(disk, BL_DISK_TEXT_ROOT_HASH));
  bl_disk_free(disk);
  making = bl_disk_options_init();
  making.flags = BL_DISK_FLAG_VERITY;
  file.path = "/etc/old";
  file.data = "old";
  file.data_len = 3;
  making.files = files;
  snprintf(path, sizeof(path), "%s.verified", store);
  OK(bl_create_disk(storage, image, path, &making, &disk, &err));
  CHECK(strlen(bl_disk_text(disk, BL_DISK_TEXT_ROOT_HASH)) == 64 && bl_disk_text(disk, BL_DISK_TEXT_VERITY_TABLE)[0]);
  bl_disk_free(disk);
  OK(bl_lease_release(lease, &err));
  bl_lease_free(lease);
  OK(bl_image_process(storage, image, NULL, &process, &err));
  CHECK(bl_process_text(process, BL_PROCESS_CWD, 0));
  bl_process_free(process);
}

static void commits(bl_storage *storage, bl_image *image, const char *store)
{
  static const char *const no_words[] = {NULL}, *const labels[] = {"a=b", NULL};
  bl_commit_source source = BL_COMMIT_SOURCE_INIT;
  bl_commit_options making = BL_COMMIT_OPTIONS_INIT;
  bl_config_changes changes = BL_CONFIG_CHANGES_INIT;
  bl_commit_counts counts = BL_COMMIT_COUNTS_INIT;
  bl_image *changed = NULL, *other = NULL;
  char path[4096];
  snprintf(path, sizeof(path), "%s.root", store);
  source.kind = BL_COMMIT_TREE;
  source.path = path;
  changes.cmd = no_words;
  changes.labels = labels;
  changes.user = "1:2";
  making.flags = BL_COMMIT_FLAG_EPOCH;
  making.epoch_seconds = 1000000000;
  making.name = "changed:1";
  making.compression = BL_COMPRESSION_GZIP;
  making.level = 1;
  making.author = making.message = making.created_by = "old";
  making.changes = &changes;
  making.annotations = labels;
  making.counts = &counts;
  OK(bl_commit_image(storage, NULL, &source, &making, &changed, &err));
  CHECK(counts.entries > 0 && counts.sockets == 0 && bl_image_layer_count(changed) == 1);
  CHECK(!strcmp(bl_image_text(changed, BL_IMAGE_CREATED, 0), "2001-09-09T01:46:40Z"));
  CHECK(!strcmp(bl_image_text(changed, BL_IMAGE_USER, 0), "1:2") && !bl_image_text_count(changed, BL_IMAGE_CMD));
  OK(bl_squash_image(storage, image, 0, NULL, &other, &err));
  CHECK(bl_image_layer_count(other) == 1);
  bl_image_free(other);
  OK(bl_edit_image(storage, changed, NULL, &other, &err));
  bl_image_free(other);
  bl_image_free(changed);
  OK(bl_remove_image(storage, "changed:1", &err));
}

static void upkeep(bl_storage *storage)
{
  bl_gc_options collect = BL_GC_OPTIONS_INIT;
  bl_gc_result collected = BL_GC_RESULT_INIT;
  bl_check_options check = BL_CHECK_OPTIONS_INIT;
  bl_check_result checked = BL_CHECK_RESULT_INIT;
  bl_disk_usage_result usage = BL_DISK_USAGE_RESULT_INIT;
  bl_lease *lease = NULL, *again = NULL;
  OK(bl_lease_create(storage, 60, &lease, &err));
  OK(bl_lease_hold(lease, EMPTY, &err));
  OK(bl_lease_extend(lease, 120, &err));
  OK(bl_lease_open(storage, bl_lease_id(lease), &again, &err));
  bl_lease_free(again);
  collect.flags = BL_GC_ANY_AGE;
  collect.on_removed = on_removed;
  collect.on_removed_data = &removed;
  OK(bl_gc(storage, &collect, &collected, &err));
  CHECK((uint64_t)removed == collected.removed);
  OK(bl_lease_release(lease, &err));
  bl_lease_free(lease);
  check.on_finding = on_finding;
  check.on_finding_data = &found;
  OK(bl_check(storage, &check, &checked, &err));
  CHECK(checked.objects > 0 && checked.damaged + checked.missing == (uint64_t)found);
  OK(bl_disk_usage(storage, &usage, &err));
  CHECK(usage.layers > 0 && usage.layer_bytes > 0 && usage.total_bytes >= usage.free_bytes);
}

static void pulls(bl_storage *storage)
{
  /* Nobody listens there. */
  static const char reference[] = "127.0.0.1:9/x";
  static const char *headers[] = {"X-A: b", NULL};
  bl_registry_options registry = BL_REGISTRY_OPTIONS_INIT;
  const bl_registry_options *registries[] = {&registry, NULL};
  bl_pull_options options = BL_PULL_OPTIONS_INIT;
  bl_pull_progress progress = BL_PULL_PROGRESS_INIT;
  bl_tree_options tree = BL_TREE_OPTIONS_INIT;
  bl_image *image = NULL;
  bl_op *op = NULL;
  bool finished = false;
  registry.host = "127.0.0.1:9";
  registry.flags = BL_REGISTRY_PLAIN_HTTP;
  registry.headers = headers;
  options.registries = registries;
  options.tree = &tree;
  options.credentials = on_credentials;
  options.progress = on_pull_progress;
  options.timeout_ms = 2000;
  options.policy = BL_PULL_POLICY_NEVER;
  FAILS(BL_E_NOT_FOUND, bl_pull(storage, reference, &options, &image, &err));
  options.policy = BL_PULL_POLICY_ALWAYS;
  options.progress = NULL;
  OK(bl_pull_start(storage, reference, &options, &op, &err));
  CHECK(bl_op_fd(op) >= 0);
  OK(bl_op_progress(op, &progress, &err));
  OK(bl_op_wait(op, 0, &finished, &err));
  bl_op_cancel(op);
  OK(bl_op_wait(op, -1, &finished, &err));
  CHECK(finished && bl_op_finish(op, &image, &err) != BL_OK && !image);
  bl_error_free(err);
  err = NULL;
  bl_op_free(op);
  OK(bl_shutdown(10000, &err));
}

int main(int argc, char **argv)
{
  bl_storage_options options = BL_STORAGE_OPTIONS_INIT;
  bl_storage *storage = NULL;
  bl_image *image;
  CHECK(argc == 3);
  CHECK(BL_VERSION_NUMBER == 1000 && bl_version_number() >= BL_VERSION_NUMBER && bl_version_string()[0]);
  CHECK(bl_has_feature(BL_FEATURE_PULL) && !bl_has_feature(0));
  OK(bl_set_log_callback(BL_LOG_TRACE, on_log, &logged, &err));
  options.durability = BL_DURABILITY_NONE;
  options.max_blob_bytes = 1 << 30;
  OK(bl_storage_open(argv[1], &options, &storage, &err));
  blobs(storage);
  image = imported(storage, argv[2]);
  files(storage, image, argv[1], argv[2]);
  disks(storage, image, argv[1]);
  commits(storage, image, argv[1]);
  upkeep(storage);
  pulls(storage);
  bl_image_free(image);
  bl_storage_close(storage);
  OK(bl_set_log_callback(BL_LOG_OFF, NULL, NULL, &err));
  CHECK(told && logged);
  return 0;
}
