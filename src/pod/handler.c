#include "pod/handler.h"

#include "base/buf.h"
#include "base/json.h"
#include "base/log.h"
#include "base/proc.h"
#include "image/image.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NATIVE "native"
#define FOLDER "runtime"

enum { OUTPUT_MAX = 1 << 20, PROBE_S = 10 };

/* What tells one build of a program from the next. */
struct program_stamp {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec changed;
};

struct handler {
	const char *name, *path, *root;
	char **args;
	/* Under the handlers' lock: */
	bool probing, probed;
	struct program_stamp stamp;
	struct err broken;              /* kind ERR_NONE: it works */
	bool features, recursive_readonly, user_namespaces;
	char version_min[32], version_max[32];
};

struct handlers {
	struct lock lock;
	struct cond changed;            /* probing */
	struct handler *p;
	size_t n;
	const char *standard;           /* of pods that name none */
	char **names;                   /* for lists: "" first */
};

/* --- which there are -------------------------------------------------------------------------------------------- */

static struct handler *find(struct handlers *all, const char *name)
{
	for (size_t i = 0; i < all->n; i++)
		if (streq(all->p[i].name, name))
			return &all->p[i];
	return NULL;
}

static int take(struct arena *a, struct handlers *all, const struct pod_handler *s, bool systemd, struct err *e)
{
	struct handler *h = &all->p[all->n];

	if (streq(s->name, NATIVE) || find(all, s->name))
		return err_set(e, ERR_INVALID, "runtime handler \"%s\" is there twice", s->name);
	*h = (struct handler){ .name = arena_strdup(a, s->name), .path = arena_strdup(a, s->path),
			       .root = arena_strdup(a, s->root), .args = strv_dup(a, s->args) };
	if (systemd)
		h->args = strv_append(a, h->args, "--systemd-cgroup");
	all->names = strv_append(a, all->names, h->name);
	all->n++;
	return 0;
}

int handlers_open(struct pods *ps, const struct pod_settings *s, struct err *e)
{
	struct handlers *all = arena_new0(&ps->arena, struct handlers);

	lock_init(&all->lock);
	cond_init(&all->changed);
	ps->handlers = all;
	all->p = arena_newn0(&ps->arena, struct handler, s->nhandlers + 1);
	all->names = strv_append(&ps->arena, strv_append(&ps->arena, NULL, ""), NATIVE);
	for (size_t i = 0; i < s->nhandlers; i++)
		if (take(&ps->arena, all, &s->handlers[i], s->systemd, e) < 0)
			return -1;
	all->standard = arena_strdup(&ps->arena, str_is_empty(s->default_handler) ? NATIVE : s->default_handler);
	if (!streq(all->standard, NATIVE) && !find(all, all->standard))
		return err_set(e, ERR_INVALID, "default_handler: there is no runtime handler \"%s\"", all->standard);
	return 0;
}

void handlers_close(struct pods *ps)
{
	if (!ps->handlers)
		return;
	cond_destroy(&ps->handlers->changed);
	lock_destroy(&ps->handlers->lock);
}

char *const *pods_handlers(struct pods *ps)
{
	return ps->handlers->names;
}

/* --- what their programs are ------------------------------------------------------------------------------------ */

struct features {
	char *min, *max;
	char **mount_options;
};

static const struct json_field features_fields[] = {
	{ "ociVersionMin", JSON_STR, offsetof(struct features, min), JSON_OPTIONAL, NULL, 0 },
	{ "ociVersionMax", JSON_STR, offsetof(struct features, max), JSON_OPTIONAL, NULL, 0 },
	{ "mountOptions", JSON_STRV, offsetof(struct features, mount_options), JSON_OPTIONAL, NULL, 0 },
	{ NULL, JSON_END, 0, 0, NULL, 0 },
};

static int ask_program(struct call *c, const struct handler *h, const char *word, struct buf *out, int *code, struct err *e)
{
	static char *env[] = { (char *)"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	char *argv[] = { (char *)h->path, (char *)word, NULL };
	struct proc_spec spec = PROC_SPEC_INIT;
	auto_buf errors = BUF(OUTPUT_MAX);
	struct proc_output result;

	spec.file = h->path;
	spec.argv = argv;
	spec.envp = env;
	if (proc_run(c, &spec, (struct str){ "", 0 }, out, &errors, &result, e) < 0)
		return -1;
	*code = result.exit.code;
	return 0;
}

/* runc since 1.1, crun since 1.8.6: older ones have no such verb, but work. */
static int probe_program(struct handler *found, struct err *e)
{
	auto_buf text = BUF(OUTPUT_MAX), version = BUF(OUTPUT_MAX);
	struct features f = { 0 };
	auto_call c;
	struct err ignored;
	int code;

	call_begin(&c, clock_mono_ns() + PROBE_S * NS_PER_S);
	if (ask_program(&c, found, "features", &text, &code, e) < 0)
		return -1;
	if (code == 0 && json_load(&c.arena, buf_str(&text), features_fields, 0, &f, &ignored) == 0) {
		found->features = true;
		found->recursive_readonly = strv_has(f.mount_options, "rro");
		(void)snprintf(found->version_min, sizeof(found->version_min), "%s", f.min ? f.min : "");
		(void)snprintf(found->version_max, sizeof(found->version_max), "%s", f.max ? f.max : "");
		return 0;
	}
	if (ask_program(&c, found, "--version", &version, &code, e) < 0)
		return -1;
	return code ? err_set(e, ERR_UNAVAILABLE, "%s --version exits with %d", found->path, code) : 0;
}

static int stamp_of(const struct handler *h, struct program_stamp *out, struct err *e)
{
	struct stat st;

	if (stat(h->path, &st) < 0)
		return err_sys(e, errno, "%s", h->path);
	*out = (struct program_stamp){ st.st_dev, st.st_ino, st.st_size, st.st_mtim };
	return 0;
}

static bool same_stamp(const struct program_stamp *x, const struct program_stamp *y)
{
	return x->dev == y->dev && x->ino == y->ino && x->size == y->size && x->changed.tv_sec == y->changed.tv_sec &&
	       x->changed.tv_nsec == y->changed.tv_nsec;
}

/* True: what is known holds; else the caller is to probe. */
static int begin_probe(struct handlers *all, struct handler *h, struct call *c, const struct program_stamp *now, bool *known,
		       struct err *e)
{
	LOCKED(&all->lock);

	while (h->probing)
		if (cond_wait(c, &all->changed, &all->lock, e) < 0)
			return -1;
	*known = h->probed && same_stamp(&h->stamp, now);
	h->probing = !*known;
	return 0;
}

static void end_probe(struct handlers *all, struct handler *h, const struct handler *found)
{
	LOCKED(&all->lock);

	h->stamp = found->stamp;
	h->broken = found->broken;
	h->features = found->features;
	h->recursive_readonly = found->recursive_readonly;
	h->user_namespaces = found->user_namespaces;
	memcpy(h->version_min, found->version_min, sizeof(h->version_min));
	memcpy(h->version_max, found->version_max, sizeof(h->version_max));
	h->probed = true;
	h->probing = false;
	cond_broadcast(&all->changed);
}

/* Asks the program what it can, once for each build of it. *out: a copy of what is known. */
static int probe(struct handlers *all, struct handler *h, struct call *c, struct handler *out, struct err *e)
{
	struct handler found = { .name = h->name, .path = h->path };
	bool known;

	*out = found;
	if (stamp_of(h, &found.stamp, &out->broken) < 0)
		return 0;
	if (begin_probe(all, h, c, &found.stamp, &known, e) < 0)
		return -1;
	if (!known) {
		if (probe_program(&found, &found.broken) < 0)
			log_warn("runtime handler does not work handler=%s: %s", h->name, found.broken.msg);
		end_probe(all, h, &found);
	}
	LOCKED(&all->lock);
	*out = *h;
	return 0;
}

int handler_resolve(struct pods *ps, struct call *c, const struct pod_config *wish, const char **runtime, struct err *e)
{
	const char *name = str_is_empty(wish->handler) ? ps->handlers->standard : wish->handler;
	struct handler *h = find(ps->handlers, name), now;

	if (streq(name, NATIVE)) {
		*runtime = "";
		return 0;
	}
	if (!h)
		return err_set(e, ERR_INVALID, "unknown runtime handler \"%s\"", name);
	if (probe(ps->handlers, h, c, &now, e) < 0)
		return err_in(e, "runtime handler %s", name);
	if (now.broken.kind != ERR_NONE)
		return err_set(e, ERR_UNAVAILABLE, "runtime handler %s: %s", name, now.broken.msg);
	if (config_userns(&wish->namespaces) && !now.user_namespaces)
		return err_set(e, ERR_UNIMPLEMENTED, "runtime handler %s: user namespaces of a pod are for the "
			       "handler native alone", name);
	*runtime = h->name;
	return 0;
}

int pods_handler_view(struct pods *ps, struct call *c, const char *name, struct pod_handler_view *out, struct err *e)
{
	const char *real = str_is_empty(name) ? ps->handlers->standard : name;
	struct handler *h = find(ps->handlers, real), now;

	*out = (struct pod_handler_view){ .name = real, .native = !h, .error = "", .version_min = "", .version_max = "" };
	if (!h)
		return 0;
	if (probe(ps->handlers, h, c, &now, e) < 0)
		return -1;
	out->path = h->path;
	out->error = now.broken.kind == ERR_NONE ? "" : arena_strdup(&c->arena, now.broken.msg);
	out->features = now.features;
	out->recursive_readonly = now.recursive_readonly;
	out->user_namespaces = now.user_namespaces;
	out->version_min = arena_strdup(&c->arena, now.version_min);
	out->version_max = arena_strdup(&c->arena, now.version_max);
	return 0;
}

/* --- a pod of theirs -------------------------------------------------------------------------------------------- */

int handler_prepare(struct pod *p, struct arena *a, struct monitor_command *out, struct err *e)
{
	const struct handler *h = find(p->all->handlers, p->runtime);
	auto_fd int dir = -1;

	if (!h)
		return err_set(e, ERR_STATE, "runtime handler %s is not configured any more", p->runtime);
	if (mkdirat(p->run_dirfd, FOLDER, 0700) < 0 && errno != EEXIST)
		return err_sys(e, errno, "mkdir " FOLDER);
	dir = fd_open(p->run_dirfd, FOLDER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, e);
	if (dir < 0)
		return -1;
	*out = (struct monitor_command){ .path = h->path, .args = h->args, .dir = pod_run_path(a, p, FOLDER) };
	if (h->root) {
		out->root = arena_printf(a, "%s/%s", h->root, p->id);
		if (fs_mkdirs(AT_FDCWD, h->root, 0711, e) < 0)
			return -1;
		lock_acquire(&p->all->lock);
		p->runtime_root = arena_strdup(&p->arena, out->root);
		lock_release(&p->all->lock);
		if (pod_save(p, e) < 0)
			return -1;
	} else {
		out->root = pod_run_path(a, p, FOLDER "/root");
	}
	out->dir_fd = fd_take(&dir);
	return 0;
}

int handler_clear(struct pod *p, struct err *e)
{
	return str_is_empty(p->runtime_root) ? 0 : fs_remove_tree(AT_FDCWD, p->runtime_root, e);
}

static int detach(const char *path, struct err *e)
{
	while (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
		;
	return errno == EINVAL || errno == ENOENT ? 0 : err_sys(e, errno, "unmount %s", path);
}

/* In the host's mount namespace, where the runtime's command looks for it. A knarrd that was killed may have left one. */
static int attach(const char *path, int mount_fd, struct err *e)
{
	if (fs_mkdirs(AT_FDCWD, path, 0755, e) < 0 || detach(path, e) < 0)
		return -1;
	if (syscall(SYS_move_mount, mount_fd, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_sys(e, errno, "mount %s (move_mount)", path);
	return 0;
}

static int attach_volumes(struct container *k, struct err *e)
{
	const struct container_bind *binds = k->binds.p;
	auto_fd int userns = -1;

	if (pod_userns_open(k->pod, &userns, e) < 0)
		return -1;
	for (size_t i = 0; i < k->binds.count; i++) {
		auto_fd int image = -1;

		if (binds[i].image &&
		    (image_mount(k->all->images, binds[i].image, binds[i].sub_path, userns, &image, e) < 0 ||
		     attach(binds[i].source, image, e) < 0))
			return -1;
	}
	return 0;
}

int handler_mounts_attach(struct container *k, struct err *e)
{
	auto_arena a = { 0 };

	if (attach(container_path(&a, k, "rootfs"), k->root_fd, e) < 0)
		return -1;
	return attach_volumes(k, e);
}

int handler_mounts_detach(struct container *k, struct err *e)
{
	const struct container_bind *binds = k->binds.p;
	auto_arena a = { 0 };

	for (size_t i = 0; i < k->binds.count; i++)
		if (binds[i].image && detach(binds[i].source, e) < 0)
			return -1;
	return detach(container_path(&a, k, "rootfs"), e);
}
