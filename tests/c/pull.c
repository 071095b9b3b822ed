/* Pulling through the C API. Arguments: a store, and a registry on loopback that wants me:secret. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#include "check.h"

static char reference[256];
static const char *host;
static bl_registry_options local = BL_REGISTRY_OPTIONS_INIT;
static const bl_registry_options *registries[] = {&local, NULL};

typedef struct {
  int asked;
  int answer;
  const char *password;
} asked;

static int give(const char *from, const char *repository, bl_credentials *answer, void *user_data)
{
  asked *a = user_data;
  bl_error *err = NULL;
  a->asked++;
  CHECK(!strcmp(from, host) && !strcmp(repository, "library/app"));
  CHECK_FAILS(err, BL_E_INVALID_ARGUMENT, bl_credentials_set(answer, NULL, "x", &err));
  CHECK_FAILS(err, BL_E_INVALID_ARGUMENT, bl_credentials_set(answer, "x", NULL, &err));
  CHECK_FAILS(err, BL_E_INVALID_ARGUMENT, bl_credentials_set(NULL, "x", "x", &err));
  if (a->password) CHECK_OK(err, bl_credentials_set(answer, "me", a->password, &err));
  return a->answer;
}

/* Descriptors of whoever started this program. */
static bool was_open[256];

static int told;

static int tell(const bl_pull_progress *progress, void *user_data)
{
  bl_layer_progress layer = BL_LAYER_PROGRESS_INIT;
  bl_error *err = NULL;
  CHECK(user_data == &told && progress->struct_size == sizeof(*progress));
  told++;
  for (int fd = 3; fd < 256; fd++) {
    int flags = fcntl(fd, F_GETFD);
    CHECK(flags < 0 || was_open[fd] || (flags & FD_CLOEXEC));
  }
  if (progress->phase == BL_PULL_PHASE_RESOLVING) return 0;
  CHECK(progress->layers == 3 && progress->layers_done <= 3);
  CHECK_OK(err, bl_pull_layers_get(progress->each_layer, 2, &layer, &err));
  CHECK(!strncmp(layer.digest, "sha256:", 7) && strlen(layer.digest) == 71);
  CHECK(layer.bytes > 0 && layer.bytes_stored <= layer.bytes);
  CHECK_FAILS(err, BL_E_NOT_FOUND, bl_pull_layers_get(progress->each_layer, 3, &layer, &err));
  CHECK(layer.bytes == 0);
  return 0;
}

static bl_pull_options options_for(asked *a)
{
  bl_pull_options options = BL_PULL_OPTIONS_INIT;
  options.registries = registries;
  options.credentials = a ? give : NULL;
  options.credentials_data = a;
  return options;
}

static void refusals(bl_storage *storage)
{
  asked wrong = {0, 0, "wrong"}, none = {0, 0, NULL}, ends = {0, 1, "secret"};
  bl_pull_options options = options_for(&wrong);
  bl_registry_options bad = BL_REGISTRY_OPTIONS_INIT;
  const bl_registry_options *bads[] = {&bad, NULL};
  const char *headers[] = {"no colon", NULL};
  bl_image *image = (bl_image *)1;
  bl_error *err = NULL;
  CHECK(bl_pull(storage, reference, &options, &image, &err) == BL_E_UNAUTHORIZED);
  CHECK(bl_error_http_status(err) == 401 && !image && wrong.asked == 1);
  CHECK(!strstr(bl_error_message(err), "wrong ("));
  bl_error_free(err);
  err = NULL;
  options = options_for(&none);
  CHECK_FAILS(err, BL_E_UNAUTHORIZED, bl_pull(storage, reference, &options, &image, &err));
  options = options_for(&ends);
  CHECK_FAILS(err, BL_E_CALLBACK, bl_pull(storage, reference, &options, &image, &err));
  options = options_for(NULL);
  options.flags = 1ULL << 40;
  CHECK_FAILS(err, BL_E_UNSUPPORTED, bl_pull(storage, reference, &options, &image, &err));
  options = options_for(NULL);
  options.policy = 9;
  CHECK_FAILS(err, BL_E_UNSUPPORTED, bl_pull(storage, reference, &options, &image, &err));
  options = options_for(NULL);
  options.user = "me";
  CHECK_FAILS(err, BL_E_INVALID_ARGUMENT, bl_pull(storage, reference, &options, &image, &err));
  options = options_for(NULL);
  options.platform = "a/b/c/d";
  CHECK_FAILS(err, BL_E_INVALID_ARGUMENT, bl_pull(storage, reference, &options, &image, &err));
  options = options_for(NULL);
  options.registries = bads;
  CHECK_FAILS(err, BL_E_INVALID_ARGUMENT, bl_pull(storage, reference, &options, &image, &err));
  bad.host = host;
  bad.flags = 1ULL << 40;
  CHECK_FAILS(err, BL_E_UNSUPPORTED, bl_pull(storage, reference, &options, &image, &err));
  bad.flags = 0;
  bad.client_key = "key";
  CHECK_FAILS(err, BL_E_INVALID_ARGUMENT, bl_pull(storage, reference, &options, &image, &err));
  bad.client_key = NULL;
  bad.headers = headers;
  CHECK_FAILS(err, BL_E_INVALID_ARGUMENT, bl_pull(storage, reference, &options, &image, &err));
  options = options_for(NULL);
  options.policy = BL_PULL_POLICY_NEVER;
  CHECK_FAILS(err, BL_E_NOT_FOUND, bl_pull(storage, reference, &options, &image, &err));
}

static void operation(bl_storage *storage)
{
  asked good = {0, 0, "secret"};
  bl_pull_options options = options_for(&good);
  bl_pull_progress progress = BL_PULL_PROGRESS_INIT;
  struct pollfd fds = {.events = POLLIN};
  bl_image *image = NULL;
  bl_op *op = NULL;
  bl_error *err = NULL;
  bool finished = false;
  options.progress = tell;
  CHECK_FAILS(err, BL_E_INVALID_ARGUMENT, bl_pull_start(storage, reference, &options, &op, &err));
  CHECK(op == NULL && bl_op_fd(NULL) == -1);
  options.progress = NULL;
  CHECK_OK(err, bl_pull_start(storage, reference, &options, &op, &err));
  CHECK(good.asked >= 1);
  fds.fd = bl_op_fd(op);
  CHECK(poll(&fds, 1, 60000) == 1 && fds.revents == POLLIN);
  CHECK_OK(err, bl_op_wait(op, 0, &finished, &err));
  CHECK(finished);
  CHECK_OK(err, bl_op_progress(op, &progress, &err));
  CHECK(progress.phase == BL_PULL_PHASE_DONE && progress.layers_done == 3 && progress.entries_unpacked == 9);
  CHECK_OK(err, bl_op_finish(op, &image, &err));
  CHECK(!strncmp(bl_image_text(image, BL_IMAGE_NAME, 0), host, strlen(host)));
  bl_image_free(image);
  image = (bl_image *)1;
  CHECK_FAILS(err, BL_E_STATE, bl_op_finish(op, &image, &err));
  CHECK(!image);
  bl_op_cancel(op);
  bl_op_cancel(NULL);
  bl_op_free(op);
  bl_op_free(NULL);
  /* One that is freed while it runs. */
  options.policy = BL_PULL_POLICY_ALWAYS;
  CHECK_OK(err, bl_pull_start(storage, reference, &options, &op, &err));
  bl_op_free(op);
}

/* An operation that several threads look at and wait for: one of them gets the image. */
static bl_op *shared;
static bl_storage *shared_storage;

static void *watcher(void *arg)
{
  int *images = arg, i;
  bl_pull_progress progress = BL_PULL_PROGRESS_INIT;
  bl_image *image = NULL;
  bl_error *err = NULL;
  bool finished = false;
  for (i = 0; i < 20; i++) CHECK_OK(err, bl_op_progress(shared, &progress, &err));
  CHECK(bl_op_fd(shared) >= 0);
  CHECK_OK(err, bl_op_wait(shared, -1, &finished, &err));
  CHECK(finished);
  bl_status status = bl_op_finish(shared, &image, NULL);
  CHECK(status == BL_OK || status == BL_E_STATE);
  CHECK((status == BL_OK) == (image != NULL));
  *images = image != NULL;
  bl_image_free(image);
  /* Beside it, a pull of the thread's own. */
  asked good = {0, 0, "secret"};
  bl_pull_options options = options_for(&good);
  options.policy = BL_PULL_POLICY_ALWAYS;
  CHECK_OK(err, bl_pull(shared_storage, reference, &options, &image, &err));
  bl_image_free(image);
  return NULL;
}

static void several_threads(bl_storage *storage)
{
  asked good = {0, 0, "secret"};
  bl_pull_options options = options_for(&good);
  pthread_t threads[4];
  int images[4] = {0}, i, all = 0;
  bl_error *err = NULL;
  shared_storage = storage;
  options.policy = BL_PULL_POLICY_ALWAYS;
  CHECK_OK(err, bl_pull_start(storage, reference, &options, &shared, &err));
  for (i = 0; i < 4; i++) CHECK(!pthread_create(&threads[i], NULL, watcher, &images[i]));
  for (i = 0; i < 4; i++) {
    CHECK(!pthread_join(threads[i], NULL));
    all += images[i];
  }
  CHECK(all == 1);
  bl_op_free(shared);
}

int main(int argc, char **argv)
{
  asked good = {0, 0, "secret"};
  bl_pull_options options = options_for(&good);
  bl_storage *storage;
  bl_image *image = NULL;
  bl_error *err = NULL;
  int fds = count("/proc/self/fd"), threads = count("/proc/self/task");
  CHECK(argc == 3);
  for (int fd = 0; fd < 256; fd++) was_open[fd] = fcntl(fd, F_GETFD) >= 0;
  host = local.host = argv[2];
  local.flags = BL_REGISTRY_PLAIN_HTTP;
  snprintf(reference, sizeof reference, "%s/library/app", host);
  storage = open_store(2, argv);
  refusals(storage);
  operation(storage);
  options.policy = BL_PULL_POLICY_ALWAYS;
  options.progress = tell;
  options.progress_data = &told;
  options.progress_interval_ms = 1;
  CHECK_OK(err, bl_pull(storage, reference, &options, &image, &err));
  CHECK(told > 0 && good.asked == 1);
  bl_image_free(image);
  several_threads(storage);
  bl_storage_close(storage);
  CHECK_OK(err, bl_shutdown(10000, &err));
  CHECK(count("/proc/self/fd") == fds);
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
  threads++; /* It has one of its own by now. */
#endif
#endif
  /* One that was joined may still be on its way out. */
  for (int i = 0; i < 6000 && count("/proc/self/task") != threads; i++) usleep(10000);
  CHECK(count("/proc/self/task") == threads);
  return 0;
}
