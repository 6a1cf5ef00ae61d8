#include "image/registries.h"

#include "base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

enum { FILE_MAX = 1 << 20 };

static int load_file(struct arena *a, const char *path, struct registries_conf *c, struct err *e)
{
	struct str text;

	if (fs_read_file(a, AT_FDCWD, path, FILE_MAX, &text, e) < 0)
		return e->kind == ERR_NOT_FOUND ? 0 : -1;
	return registries_conf_read(a, text, c, e) < 0 ? err_in(e, "%s", path) : 0;
}

static int by_name(const void *x, const void *y)
{
	return strcmp(*(char *const *)x, *(char *const *)y);
}

int list_folder(struct arena *a, const char *folder, char ***out, struct err *e)
{
	const struct dirent *f;
	DIR *dir = opendir(folder);

	*out = NULL;
	if (!dir)
		return errno == ENOENT ? 0 : err_sys(e, errno, "%s", folder);
	*out = arena_newn0(a, char *, 1);
	while ((f = readdir(dir))) {
		if (*f->d_name != '.')
			*out = strv_append(a, *out, f->d_name);
	}
	(void)closedir(dir);
	qsort(*out, strv_len(*out), sizeof(**out), by_name);
	return 0;
}

int registries_load(struct arena *a, const char *path, struct registries_conf *out, struct err *e)
{
	const char *folder = arena_printf(a, "%s.d", path);
	char **names;

	*out = (struct registries_conf){ 0 };
	if (load_file(a, path, out, e) < 0 || list_folder(a, folder, &names, e) < 0)
		return -1;
	for (; names && *names; names++) {
		if (ends_with(*names, ".conf") && load_file(a, path_join(a, folder, *names), out, e) < 0)
			return -1;
	}
	return 0;
}

int registries_names(struct arena *a, const char *path, const char *text, struct ref **out, size_t *n, struct err *e)
{
	struct registries_conf conf = { 0 };
	char **names;

	*out = NULL;
	*n = 0;
	if ((path && registries_load(a, path, &conf, e) < 0) || registries_conf_names(a, &conf, text, &names, e) < 0)
		return -1;
	*out = arena_newn0(a, struct ref, strv_len(names));
	for (; *names; names++) {
		if (ref_parse(a, *names, &(*out)[(*n)++], e) < 0)
			return -1;
	}
	return 0;
}
