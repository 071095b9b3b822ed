/* Handles that several threads share, all of them at once, while names, leases and the log callback change below them. */
#include <pthread.h>

#include "check.h"

#define THREADS 6
#define ROUNDS 12

static const char zeros[1024];
static bl_storage *storage;
static bl_image *image;
static bl_lease *lease;
static bl_cancel *cancel;
static bl_layer_entries *entries;
static bl_names *names;

static void quiet(int32_t level, const char *message, void *user_data)
{
  (void)level;
  (void)user_data;
  CHECK(message[0] != 0);
}

/* One of these, as a host that does not know what the others do would take it. */
static bool is_one_of(bl_status status, bl_status a, bl_status b)
{
  return status == BL_OK || status == a || status == b;
}

static void read_only(void)
{
  bl_image_layer_info layer = BL_IMAGE_LAYER_INFO_INIT;
  bl_image_usage usage = BL_IMAGE_USAGE_INIT;
  bl_disk_usage_result disk = BL_DISK_USAGE_RESULT_INIT;
  bl_layer_entry entry = BL_LAYER_ENTRY_INIT;
  bl_extract_options options = BL_EXTRACT_OPTIONS_INIT;
  bl_error *err = NULL;
  bl_bytes *bytes = NULL;
  bool has = false;
  CHECK(!strcmp(bl_image_text(image, BL_IMAGE_MANIFEST_DIGEST, 0), ONE_LAYER_IMAGE));
  CHECK(bl_image_layer_count(image) == 1);
  CHECK_OK(err, bl_image_layer(image, 0, &layer, &err));
  CHECK_OK(err, bl_image_get_usage(storage, image, &usage, &err));
  CHECK_OK(err, bl_disk_usage(storage, &disk, &err));
  CHECK(bl_names_count(names) == 1 && bl_names_get(names, 0)[0] != 0 && bl_lease_id(lease)[0] != 0);
  CHECK_OK(err, bl_has_layer(storage, EMPTY_LAYER, &has, &err));
  CHECK(has);
  CHECK_OK(err, bl_load_manifest(storage, ONE_LAYER_IMAGE, &bytes, &err));
  bl_bytes_free(bytes);
  CHECK_OK(err, bl_extracted_path(storage, EMPTY_LAYER, NULL, &bytes, &err));
  bl_bytes_free(bytes);
  CHECK(is_one_of(bl_layer_entries_next(entries, &entry, NULL), BL_E_BUSY, BL_E_BUSY));
  options.cancel = cancel;
  CHECK(is_one_of(bl_extract_layer(storage, EMPTY_LAYER, &options, NULL, NULL), BL_E_CANCELLED, BL_E_CANCELLED));
}

static void change(size_t number)
{
  bl_gc_options collect = BL_GC_OPTIONS_INIT;
  bl_check_options check = BL_CHECK_OPTIONS_INIT;
  bl_image *again = NULL;
  bl_error *err = NULL;
  char name[64];
  snprintf(name, sizeof(name), "a.org/x:%zu", number % 3);
  put(storage, ABC, "abc", 3);
  CHECK_OK(err, bl_tag_image(storage, name, ONE_LAYER_IMAGE, &err));
  if (bl_image_open(storage, name, &again, NULL) == BL_OK) bl_image_free(again);
  CHECK(is_one_of(bl_remove_image(storage, name, NULL), BL_E_NOT_FOUND, BL_E_NOT_FOUND));
  CHECK_OK(err, bl_lease_hold(lease, ABC, &err));
  CHECK_OK(err, bl_lease_extend(lease, 60 + number, &err));
  /* Any age, and yet what the other threads are at stays. */
  collect.flags = BL_GC_ANY_AGE;
  if (number % 4 == 0) CHECK_OK(err, bl_gc(storage, &collect, NULL, &err));
  if (number % 4 == 1) CHECK_OK(err, bl_check(storage, &check, NULL, &err));
  CHECK_OK(err, bl_set_log_callback(BL_LOG_TRACE, number % 2 ? quiet : NULL, NULL, &err));
  if (number == THREADS - 1) bl_cancel_trigger(cancel);
  (void)bl_cancel_is_triggered(cancel);
}

static void *worker(void *arg)
{
  size_t number = *(size_t *)arg;
  int i;
  for (i = 0; i < rounds(ROUNDS); i++) {
    read_only();
    change(number);
  }
  return NULL;
}

int main(int argc, char **argv)
{
  pthread_t threads[THREADS];
  size_t numbers[THREADS], i;
  bl_error *err = NULL;
  storage = open_store(argc, argv);
  CHECK_OK(err, bl_lease_create(storage, 60, &lease, &err));
  CHECK_OK(err, bl_lease_hold(lease, ONE_LAYER_IMAGE, &err));
  CHECK_OK(err, bl_save_manifest(storage, ONE_LAYER_IMAGE, ONE_LAYER_MANIFEST, sizeof(ONE_LAYER_MANIFEST) - 1, &err));
  {
    bl_staged *config = NULL;
    CHECK_OK(err, bl_stage_config(storage, ABC, &config, &err));
    CHECK_OK(err, bl_write(config, "abc", 3, &err));
    CHECK_OK(err, bl_commit(config, &err));
    bl_staged_free(config);
  }
  put(storage, EMPTY_LAYER, zeros, sizeof(zeros));
  CHECK_OK(err, bl_extract_layer(storage, EMPTY_LAYER, NULL, NULL, &err));
  CHECK_OK(err, bl_tag_image(storage, "a.org/kept:1", ONE_LAYER_IMAGE, &err));
  CHECK_OK(err, bl_image_open(storage, "a.org/kept:1", &image, &err));
  CHECK_OK(err, bl_image_list(storage, &names, &err));
  CHECK_OK(err, bl_layer_entries_open(storage, EMPTY_LAYER, NULL, &entries, &err));
  CHECK_OK(err, bl_cancel_new(&cancel, &err));
  for (i = 0; i < THREADS; i++) {
    numbers[i] = i;
    CHECK(!pthread_create(&threads[i], NULL, worker, &numbers[i]));
  }
  for (i = 0; i < THREADS; i++) CHECK(!pthread_join(threads[i], NULL));
  CHECK_OK(err, bl_set_log_callback(BL_LOG_OFF, NULL, NULL, &err));
  CHECK(bl_cancel_is_triggered(cancel));
  /* In another order than they were made. */
  bl_storage_close(storage);
  bl_cancel_free(cancel);
  bl_lease_free(lease);
  bl_image_free(image);
  bl_layer_entries_free(entries);
  bl_names_free(names);
  return 0;
}
