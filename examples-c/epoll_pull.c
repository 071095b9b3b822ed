/*
 * epoll_pull: several images at once, from an event loop. The library works on threads of its own; this one only waits,
 * for the end of each pull and for a clock that draws a line of progress.
 *
 *   epoll_pull STORE [--plain-http HOST] REFERENCE...
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "boxlite_images.h"

enum { MOST = 16 };

typedef struct {
  const char *reference;
  bl_op *op;
  bl_pull_progress last;
} pull;

static int failed(const char *what, bl_error *err)
{
  fprintf(stderr, "%s: %s: %s\n", what, bl_status_name(bl_error_status(err)), bl_error_message(err));
  bl_error_free(err);
  return 1;
}

/* How one ended. Its descriptor leaves the epoll set before the operation goes. */
static int finish(int epoll, pull *p)
{
  bl_image *image = NULL;
  bl_error *err = NULL;
  int result = 0;
  if (bl_op_finish(p->op, &image, &err))
    result = failed(p->reference, err);
  else
    printf("%s: %s\n", p->reference, bl_image_text(image, BL_IMAGE_MANIFEST_DIGEST, 0));
  bl_image_free(image);
  epoll_ctl(epoll, EPOLL_CTL_DEL, bl_op_fd(p->op), NULL);
  bl_op_free(p->op);
  p->op = NULL;
  return result;
}

static void draw(pull *pulls, int count)
{
  unsigned long long fetched = 0, wanted = 0;
  int i;
  for (i = 0; i < count; i++) {
    if (pulls[i].op) bl_op_progress(pulls[i].op, &pulls[i].last, NULL);
    fetched += pulls[i].last.bytes_fetched;
    wanted += pulls[i].last.bytes_to_fetch;
  }
  fprintf(stderr, "%llu of %llu MB\n", fetched / 1000000, wanted / 1000000);
}

static int loop(int epoll, pull *pulls, int count)
{
  int left = count, result = 0;
  while (left > 0) {
    struct epoll_event events[MOST];
    int i, n = epoll_wait(epoll, events, MOST, 1000);
    if (n < 0 && errno != EINTR) {
      perror("epoll_wait");
      return 1;
    }
    if (n == 0) draw(pulls, count);
    for (i = 0; i < n; i++) {
      result |= finish(epoll, events[i].data.ptr);
      left--;
    }
  }
  return result;
}

int main(int argc, char **argv)
{
  bl_registry_options local = BL_REGISTRY_OPTIONS_INIT;
  const bl_registry_options *registries[] = {&local, NULL};
  bl_pull_options options = BL_PULL_OPTIONS_INIT;
  bl_storage *storage = NULL;
  bl_error *err = NULL;
  pull pulls[MOST];
  int epoll, i, count = 0, result = 0, at = 2;
  if (argc > 3 && !strcmp(argv[2], "--plain-http")) {
    local.host = argv[3];
    local.flags = BL_REGISTRY_PLAIN_HTTP;
    options.registries = registries;
    at = 4;
  }
  if (argc <= at || argc - at > MOST) {
    fputs("usage: epoll_pull STORE [--plain-http HOST] REFERENCE...\n", stderr);
    return 2;
  }
  if (bl_storage_open(argv[1], NULL, &storage, &err)) return failed(argv[1], err);
  epoll = epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) {
    perror("epoll_create1");
    bl_storage_close(storage);
    return 1;
  }
  for (; at < argc; at++) {
    pull *p = &pulls[count];
    struct epoll_event event = {.events = EPOLLIN, .data = {.ptr = p}};
    p->reference = argv[at];
    p->last = bl_pull_progress_init();
    if (bl_pull_start(storage, p->reference, &options, &p->op, &err)) {
      result |= failed(p->reference, err);
      err = NULL;
      continue;
    }
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, bl_op_fd(p->op), &event)) {
      perror("epoll_ctl");
      result = 1;
      bl_op_free(p->op);
      continue;
    }
    count++;
  }
  result |= loop(epoll, pulls, count);
  for (i = 0; i < count; i++) bl_op_free(pulls[i].op);
  close(epoll);
  bl_storage_close(storage);
  bl_shutdown(1000, NULL);
  return result;
}
