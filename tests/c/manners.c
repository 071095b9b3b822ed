/* A guest in somebody else's process: nothing printed, nothing changed, nothing left open or inherited. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"

static int count(const char *dir)
{
  DIR *d = opendir(dir);
  int n = 0;
  CHECK(d != NULL);
  while (readdir(d)) n++;
  closedir(d);
  return n;
}

/* Of this program's own; whoever started it may have left others. */
static void all_descriptors_close_on_exec(const int *inherited)
{
  int fd, found = 0;
  for (fd = 3; fd < 256; fd++) {
    int flags = fcntl(fd, F_GETFD);
    if (flags < 0 || inherited[fd]) continue;
    found++;
    CHECK(flags & FD_CLOEXEC);
  }
  CHECK(found > 3);
}

int main(int argc, char **argv)
{
  static const char zeros[1024];
  struct sigaction before[32], after;
  bl_storage *storage;
  bl_staged *staged = NULL;
  bl_error *err = NULL;
  char cwd[4096], cwd_after[4096];
  mode_t mask = umask(027);
  int fds = count("/proc/self/fd"), threads = count("/proc/self/task"), i;
  int inherited[256];
  for (i = 0; i < 256; i++) inherited[i] = fcntl(i, F_GETFD) >= 0;
  (void)mask;
  CHECK(getcwd(cwd, sizeof(cwd)) != NULL);
  for (i = 1; i < 32; i++) sigaction(i, NULL, &before[i]);

  storage = open_store(argc, argv);
  CHECK(count("/proc/self/task") == threads);
  put(storage, EMPTY_LAYER, zeros, sizeof(zeros));
  CHECK_OK(err, bl_stage_layer(storage, ABC, 3, &staged, &err));
  all_descriptors_close_on_exec(inherited);
  bl_staged_free(staged);
  for (i = 0; i < 50; i++) {
    CHECK_OK(err, bl_extract_layer(storage, EMPTY_LAYER, NULL, NULL, &err));
    CHECK_FAILS(err, BL_E_NOT_FOUND, bl_extract_layer(storage, ABC, NULL, NULL, &err));
  }
  bl_storage_close(storage);

  CHECK(count("/proc/self/fd") == fds);
  CHECK(count("/proc/self/task") == threads);
  CHECK(umask(022) == 027);
  CHECK(getcwd(cwd_after, sizeof(cwd_after)) != NULL && !strcmp(cwd, cwd_after));
  for (i = 1; i < 32; i++) {
    sigaction(i, NULL, &after);
    CHECK(after.sa_handler == before[i].sa_handler);
  }
  return 0;
}
