/* What the files of blimg share. */
#ifndef BLIMG_H
#define BLIMG_H

#include "boxlite_images.h"

typedef struct {
  bl_storage *storage;
  int json;
  int quiet;
} app;

/* Triggered by SIGINT and SIGTERM. */
extern bl_cancel *on_interrupt;

int usage(void);

/* Says what went wrong and takes the error over; gives the exit status. */
int failed(bl_error *err);

/* Writes a string to stdout as JSON. */
void json_string(const char *text);

void print_image(const app *a, bl_image *image);

int cmd_pull(const app *a, char **args);
int cmd_import(const app *a, char **args);
int cmd_export(const app *a, char **args);
int cmd_rootfs(const app *a, char **args);
int cmd_mount_options(const app *a, char **args);
int cmd_config(const app *a, char **args);
int cmd_gc(const app *a, char **args);
int cmd_check(const app *a, char **args);
int cmd_df(const app *a, char **args);
int cmd_lease(const app *a, char **args);

#endif
