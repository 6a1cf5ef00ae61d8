#include "pod/cdi_files.h"

#include "base/fd.h"
#include "base/fs.h"
#include "spec/yaml.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { FILES_MAX = 4096 };

struct file {
	const char *path;
	unsigned folder;                /* its number: a later one counts more */
	struct cdi_spec spec;
	bool used;                      /* its own edits are taken */
};

struct files {
	struct arena *a;
	struct file *v;
	size_t n;
	const char *bad;                /* what was wrong with those that could not be read */
};

/* --- reading --------------------------------------------------------------------------------------- */

static int read_spec(struct arena *a, const char *path, struct cdi_spec *out, struct err *e)
{
	struct json *doc;
	struct str text;

	if (fs_read_file(a, AT_FDCWD, path, CDI_SPEC_MAX, &text, e) < 0)
		return -1;
	if ((ends_with(path, ".json") ? json_parse(a, text, &doc, e) : yaml_parse(a, text, &doc, e)) < 0 ||
	    cdi_spec_read(a, doc, out, e) < 0)
		return err_in(e, "%s", path);
	return 0;
}

static void read_one(struct files *f, const char *path, unsigned folder)
{
	struct cdi_spec spec;
	struct err e;

	if (f->n == FILES_MAX)
		return;
	if (read_spec(f->a, path, &spec, &e) == 0)
		f->v[f->n++] = (struct file){ path, folder, spec, false };
	else if (e.kind != ERR_NOT_FOUND) /* gone since */
		f->bad = arena_printf(f->a, "%s; %s", f->bad, e.msg);
}

static int by_name(const void *x, const void *y)
{
	return strcmp(*(char *const *)x, *(char *const *)y);
}

static void read_folder(struct files *f, const char *path, unsigned number)
{
	char **names = arena_newn0(f->a, char *, FILES_MAX);
	DIR *dir = opendir(path);
	struct dirent *d;
	size_t n = 0;

	if (!dir) {
		if (errno != ENOENT)
			f->bad = arena_printf(f->a, "%s; %s: %s", f->bad, path, err_errno_text(errno));
		return;
	}
	while (n < FILES_MAX && (d = readdir(dir)))
		if (d->d_name[0] != '.' && (ends_with(d->d_name, ".json") || ends_with(d->d_name, ".yaml")))
			names[n++] = arena_strdup(f->a, d->d_name);
	(void)closedir(dir); /* only read */
	qsort(names, n, sizeof(*names), by_name);
	for (size_t i = 0; i < n; i++)
		read_one(f, path_join(f->a, path, names[i]), number);
}

/* --- finding --------------------------------------------------------------------------------------- */

static const struct cdi_device *device_in(const struct file *f, const struct cdi_name *name)
{
	if (!str_eqz(name->kind, f->spec.kind))
		return NULL;
	OCI_EACH(cdi_device, d, f->spec.devices)
		if (str_eqz(name->device, d->name))
			return d;
	return NULL;
}

static int find(struct files *f, const char *text, struct file **in, const struct cdi_device **out, struct err *e)
{
	const struct file *other = NULL;
	struct cdi_name name;

	*in = NULL;
	if (cdi_name_parse(text, &name, e) < 0)
		return -1;
	for (size_t i = 0; i < f->n; i++) {
		const struct cdi_device *d = device_in(&f->v[i], &name);

		if (!d)
			continue;
		other = *in && (*in)->folder == f->v[i].folder ? *in : NULL;
		*in = &f->v[i];
		*out = d;
	}
	if (!*in)
		return err_set(e, ERR_NOT_FOUND, "CDI device %s is in no file%s", text, f->bad);
	return other ? err_set(e, ERR_INVALID, "CDI device %s is in two files: %s and %s", text, other->path, (*in)->path) : 0;
}

/* --- what the host knows --------------------------------------------------------------------------- */

static char *type_of(mode_t mode)
{
	return S_ISBLK(mode) ? (char *)"b" : S_ISCHR(mode) ? (char *)"c" : S_ISFIFO(mode) ? (char *)"p" : NULL;
}

static int fill_node(struct cdi_device_node *d, struct err *e)
{
	const char *path = d->host_path ? d->host_path : d->path, *type;
	struct stat st;

	if (d->type && (d->major || d->type[0] == 'p'))
		return 0;
	if (stat(path, &st) < 0)
		return err_sys(e, errno, "CDI: device node %s", path);
	type = type_of(st.st_mode);
	if (!type)
		return err_set(e, ERR_INVALID, "CDI: %s is no device node", path);
	if (d->type && !streq(d->type[0] == 'u' ? "c" : d->type, type))
		return err_set(e, ERR_INVALID, "CDI: device node %s is of type %s, not %s", path, type, d->type);
	d->type = (char *)type;
	if (type[0] != 'p') {
		d->major = major(st.st_rdev);
		d->minor = minor(st.st_rdev);
	}
	return 0;
}

static int take(struct arena *a, const struct cdi_edits *from, struct cdi_edits *to, struct err *e)
{
	struct cdi_device_node *nodes = arena_newn0(a, struct cdi_device_node, from->device_nodes.count + 1);

	*to = *from;
	if (from->device_nodes.count)
		memcpy(nodes, from->device_nodes.p, from->device_nodes.count * sizeof(*nodes));
	to->device_nodes.p = nodes;
	for (size_t i = 0; i < to->device_nodes.count; i++)
		if (fill_node(&nodes[i], e) < 0)
			return -1;
	OCI_EACH(cdi_mount, m, to->mounts)
		if (m->host_path[0] == '/' && access(m->host_path, F_OK) < 0)
			return err_sys(e, errno, "CDI: mount source %s", m->host_path);
	return 0;
}

int cdi_files_find(struct arena *a, char *const *folders, char *const *devices, struct json_vec *edits, struct err *e)
{
	struct files f = { .a = a, .v = arena_newn0(a, struct file, FILES_MAX), .bad = "" };
	struct cdi_edits *all = arena_newn0(a, struct cdi_edits, 2 * strv_len(devices) + 1);
	const struct cdi_device *device = NULL;
	struct file *in;
	size_t n = 0;

	for (unsigned i = 0; folders && folders[i]; i++)
		read_folder(&f, folders[i], i);
	for (; *devices; devices++) {
		if (find(&f, *devices, &in, &device, e) < 0)
			return -1;
		if (!in->used && take(a, &in->spec.edits, &all[n++], e) < 0)
			return err_in(e, "%s", in->path);
		in->used = true;
		if (take(a, &device->edits, &all[n++], e) < 0)
			return err_in(e, "%s: device %s", in->path, device->name);
	}
	*edits = (struct json_vec){ all, n };
	return 0;
}

char **cdi_devices_of(struct arena *a, char *const *listed, const struct json_map *annotations)
{
	char **all = listed ? strv_dup(a, listed) : NULL;

	for (size_t i = 0; i < annotations->count; i++) {
		struct str rest = str_of(annotations->p[i].value ? annotations->p[i].value : "");

		if (!starts_with(annotations->p[i].key, "cdi.k8s.io/"))
			continue;
		while (rest.p) {
			const char *name = str_dup(a, str_trim(str_cut(&rest, ',')));

			if (*name && !(all && strv_has(all, name)))
				all = strv_append(a, all, name);
		}
	}
	return all;
}
