/* A child without exec: handles answer FORKED, and freeing them leaves the parent's work alone. */
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

int main(int argc, char **argv)
{
  bl_storage *storage = open_store(argc, argv), *again = NULL;
  bl_staged *staged = NULL;
  bl_error *err = NULL;
  bool has = false;
  int status;
  pid_t child;
  CHECK_OK(err, bl_stage_layer(storage, ABC, 3, &staged, &err));
  CHECK_OK(err, bl_write(staged, "a", 1, &err));
  child = fork();
  CHECK(child >= 0);
  if (!child) {
    bl_storage *own = NULL;
    bl_staged *none = NULL;
    CHECK_FAILS(err, BL_E_FORKED, bl_write(staged, "b", 1, &err));
    CHECK_FAILS(err, BL_E_FORKED, bl_commit(staged, &err));
    CHECK_FAILS(err, BL_E_FORKED, bl_abort(staged, &err));
    CHECK_FAILS(err, BL_E_FORKED, bl_has_layer(storage, ABC, &has, &err));
    CHECK_FAILS(err, BL_E_FORKED, bl_extract_layer(storage, ABC, NULL, NULL, &err));
    CHECK_FAILS(err, BL_E_FORKED, bl_stage_layer(storage, ABC, 3, &none, &err));
    bl_staged_free(staged);
    bl_storage_close(storage);
    /* A store of its own is fine, and its sweep sees that the parent lives. */
    CHECK_OK(err, bl_storage_open(argv[1], NULL, &own, &err));
    bl_storage_close(own);
    _exit(0);
  }
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  child = fork();
  if (!child) {
    bl_staged_free(staged);
    bl_storage_close(storage);
    _exit(0);
  }
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK_OK(err, bl_write(staged, "bc", 2, &err));
  CHECK_OK(err, bl_commit(staged, &err));
  CHECK_OK(err, bl_storage_open(argv[1], NULL, &again, &err));
  CHECK_OK(err, bl_has_layer(again, ABC, &has, &err));
  CHECK(has);
  bl_staged_free(staged);
  bl_storage_close(again);
  bl_storage_close(storage);
  return 0;
}
