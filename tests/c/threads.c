/* One staged download under two threads gives BUSY and never mixed bytes; everything else may be shared. */
#include <pthread.h>

#include "check.h"

#define PIECE ((size_t)4 << 20)
#define ROUNDS 40

static bl_staged *shared;
static bl_storage *storage;
static char piece[PIECE];

static void *writer(void *arg)
{
  uint64_t *accepted = arg;
  int i;
  for (i = 0; i < rounds(ROUNDS); i++) {
    bl_status status = bl_write(shared, piece, PIECE, NULL);
    CHECK(status == BL_OK || status == BL_E_BUSY);
    if (status == BL_OK) *accepted += PIECE;
    CHECK(bl_staged_bytes_written(shared) <= 2 * ROUNDS * PIECE);
  }
  return NULL;
}

static void *user(void *arg)
{
  int i;
  (void)arg;
  for (i = 0; i < rounds(20); i++) {
    bl_error *err = NULL;
    bl_bytes *path = NULL;
    bool has = false;
    put(storage, ABC, "abc", 3);
    CHECK_OK(err, bl_has_layer(storage, ABC, &has, &err));
    CHECK_OK(err, bl_layer_tarball_path(storage, ABC, &path, &err));
    CHECK(has);
    bl_bytes_free(path);
    CHECK_OK(err, bl_verify_layer(storage, ABC, NULL, &err));
  }
  return NULL;
}

int main(int argc, char **argv)
{
  pthread_t threads[4];
  uint64_t accepted[2] = {0, 0};
  bl_error *err = NULL;
  int i;
  storage = open_store(argc, argv);
  CHECK_OK(err, bl_stage_layer(storage, EMPTY_LAYER, 0, &shared, &err));
  for (i = 0; i < 2; i++) CHECK(!pthread_create(&threads[i], NULL, writer, &accepted[i]));
  for (i = 2; i < 4; i++) CHECK(!pthread_create(&threads[i], NULL, user, NULL));
  for (i = 0; i < 4; i++) CHECK(!pthread_join(threads[i], NULL));
  CHECK(bl_staged_bytes_written(shared) == accepted[0] + accepted[1]);
  bl_staged_free(shared);
  bl_storage_close(storage);
  return 0;
}
