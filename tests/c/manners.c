/* A guest in somebody else's process: nothing printed, nothing changed, nothing left open or inherited. What is compared is
 * from before the library was loaded. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#define FDS 256

typedef struct {
  struct sigaction actions[65];
  sigset_t blocked;
  stack_t stack;
  int fds, threads;
  bool is_open[FDS];
  char cwd[4096];
  char **environment;
  size_t variables, characters;
  struct rlimit limits[RLIM_NLIMITS];
} state;

/* All but the umask, which cannot be read without being set. */
static void look(state *s, char **environment)
{
  int i;
  memset(s, 0, sizeof(*s));
  s->fds = count("/proc/self/fd");
  s->threads = count("/proc/self/task");
  for (i = 0; i < FDS; i++) s->is_open[i] = fcntl(i, F_GETFD) >= 0;
  for (i = 1; i < 65; i++) sigaction(i, NULL, &s->actions[i]);
  CHECK(!sigprocmask(SIG_SETMASK, NULL, &s->blocked) && !sigaltstack(NULL, &s->stack));
  CHECK(getcwd(s->cwd, sizeof(s->cwd)) != NULL);
  s->environment = environment;
  for (char **variable = environment; *variable; variable++) {
    s->variables++;
    s->characters += strlen(*variable);
  }
  for (i = 0; i < RLIM_NLIMITS; i++) CHECK(!getrlimit((__rlimit_resource_t)i, &s->limits[i]));
}

static void are_equal(const state *a, const state *b)
{
  int i;
  CHECK(a->fds == b->fds && a->threads == b->threads);
  for (i = 0; i < FDS; i++) CHECK(a->is_open[i] == b->is_open[i]);
  for (i = 1; i < 65; i++)
    CHECK(a->actions[i].sa_handler == b->actions[i].sa_handler && a->actions[i].sa_flags == b->actions[i].sa_flags);
  for (i = 1; i < 65; i++) CHECK(sigismember(&a->blocked, i) == sigismember(&b->blocked, i));
  CHECK(a->stack.ss_sp == b->stack.ss_sp && a->stack.ss_flags == b->stack.ss_flags);
  CHECK(!strcmp(a->cwd, b->cwd));
  CHECK(a->environment == b->environment && a->variables == b->variables && a->characters == b->characters);
  for (i = 0; i < RLIM_NLIMITS; i++)
    CHECK(a->limits[i].rlim_cur == b->limits[i].rlim_cur && a->limits[i].rlim_max == b->limits[i].rlim_max);
}

static state before_load, at_end;

static void before(int argc, char **argv, char **envp)
{
  (void)argc, (void)argv;
  umask(027);
  /* `environ` itself is not set yet. */
  look(&before_load, envp);
}

/* Called before the initialisers of any library. */
__attribute__((section(".preinit_array"), used)) static void (*const at_load)(int, char **, char **) = before;

/* Executed by the program itself, while the store is open: nothing of it comes along. */
static int inherited(char *expected)
{
  int fd;
  for (fd = 3; fd < FDS; fd++) CHECK((fcntl(fd, F_GETFD) >= 0) == (expected[fd] == '1'));
  return 0;
}

static void exec_inherits_nothing(char **argv)
{
  char expected[FDS + 1] = {0};
  char *args[] = {argv[0], "--inherited", expected, NULL};
  int status, fd, more = 0;
  pid_t child;
  for (fd = 0; fd < FDS; fd++) {
    bool is_new = fcntl(fd, F_GETFD) >= 0 && !before_load.is_open[fd];
    expected[fd] = before_load.is_open[fd] ? '1' : '0';
    more += is_new;
    CHECK(!is_new || (fcntl(fd, F_GETFD) & FD_CLOEXEC));
  }
  CHECK(more > 0);
  child = fork();
  CHECK(child >= 0);
  if (!child) {
    execv(argv[0], args);
    _exit(127);
  }
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Ten operations of different kinds, some of which fail. */
static void ten_operations(char **argv, bl_storage *storage)
{
  bl_storage *again = NULL;
  bl_staged *staged = NULL;
  bl_names *names = NULL;
  bl_bytes *bytes = NULL;
  bl_image *image = NULL;
  bl_gc_options collect = BL_GC_OPTIONS_INIT;
  bl_error *err = NULL;
  bool has = false;
  CHECK_OK(err, bl_storage_open(argv[1], NULL, &again, &err));
  CHECK_OK(err, bl_stage_layer(again, ABC, 3, &staged, &err));
  CHECK_OK(err, bl_write(staged, "ab", 2, &err));
  CHECK_FAILS(err, BL_E_SIZE_MISMATCH, bl_commit(staged, &err));
  CHECK_OK(err, bl_extract_layer(storage, EMPTY_LAYER, NULL, NULL, &err));
  CHECK_FAILS(err, BL_E_NOT_FOUND, bl_extract_layer(storage, ABC, NULL, NULL, &err));
  CHECK_OK(err, bl_has_layer(storage, EMPTY_LAYER, &has, &err));
  CHECK_OK(err, bl_image_list(storage, &names, &err));
  CHECK_FAILS(err, BL_E_NOT_FOUND, bl_image_open(storage, "a.org/none:1", &image, &err));
  CHECK_OK(err, bl_gc(storage, &collect, NULL, &err));
  CHECK(!image && !bytes && has);
  bl_names_free(names);
  bl_staged_free(staged);
  bl_storage_close(again);
}

int main(int argc, char **argv)
{
  static const char zeros[1024];
  bl_storage *storage;
  bl_staged *staged = NULL;
  bl_error *err = NULL;
  int threads, i;
  if (argc == 3) return inherited(argv[2]);

  storage = open_store(argc, argv);
  threads = count("/proc/self/task");
  CHECK(threads == before_load.threads);
  put(storage, EMPTY_LAYER, zeros, sizeof(zeros));
  CHECK_OK(err, bl_stage_layer(storage, ABC, 3, &staged, &err));
  exec_inherits_nothing(argv);
  bl_staged_free(staged);
  for (i = 0; i < 100; i++) ten_operations(argv, storage);
  bl_storage_close(storage);
  CHECK_OK(err, bl_shutdown(10000, &err));

  /* One that was joined may still be on its way out. */
  for (i = 0; i < 6000 && count("/proc/self/task") != before_load.threads; i++) usleep(10000);
  look(&at_end, environ);
  are_equal(&before_load, &at_end);
  CHECK(umask(022) == 027);
  CHECK(!strcmp(setlocale(LC_ALL, NULL), "C"));
  return 0;
}
