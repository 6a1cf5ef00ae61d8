#include "kernel/mount.h"

#include "base/fd.h"
#include "base/fs.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

struct word {
	const char *text;
	unsigned long set, clear; /* MS_ */
	uint64_t attr_set, attr_clear;
};

static const struct word words[] = {
	{ "ro", MS_RDONLY, 0, MOUNT_ATTR_RDONLY, 0 },
	{ "rw", 0, MS_RDONLY, 0, MOUNT_ATTR_RDONLY },
	{ "nosuid", MS_NOSUID, 0, MOUNT_ATTR_NOSUID, 0 },
	{ "suid", 0, MS_NOSUID, 0, MOUNT_ATTR_NOSUID },
	{ "nodev", MS_NODEV, 0, MOUNT_ATTR_NODEV, 0 },
	{ "dev", 0, MS_NODEV, 0, MOUNT_ATTR_NODEV },
	{ "noexec", MS_NOEXEC, 0, MOUNT_ATTR_NOEXEC, 0 },
	{ "exec", 0, MS_NOEXEC, 0, MOUNT_ATTR_NOEXEC },
	{ "nodiratime", MS_NODIRATIME, 0, MOUNT_ATTR_NODIRATIME, 0 },
	{ "diratime", 0, MS_NODIRATIME, 0, MOUNT_ATTR_NODIRATIME },
	{ "relatime", MS_RELATIME, 0, MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME },
	{ "norelatime", 0, MS_RELATIME, MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME },
	{ "noatime", MS_NOATIME, 0, MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME },
	{ "atime", 0, MS_NOATIME, MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME },
	{ "strictatime", MS_STRICTATIME, 0, MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME },
	{ "nostrictatime", 0, MS_STRICTATIME, MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME },
	{ "nosymfollow", 256 /* MS_NOSYMFOLLOW */, 0, 0x200000 /* MOUNT_ATTR_NOSYMFOLLOW */, 0 },
	{ "symfollow", 0, 256, 0, 0x200000 },
	{ "sync", MS_SYNCHRONOUS, 0, 0, 0 },
	{ "async", 0, MS_SYNCHRONOUS, 0, 0 },
	{ "dirsync", MS_DIRSYNC, 0, 0, 0 },
	{ "mand", MS_MANDLOCK, 0, 0, 0 },
	{ "nomand", 0, MS_MANDLOCK, 0, 0 },
	{ "silent", MS_SILENT, 0, 0, 0 },
	{ "loud", 0, MS_SILENT, 0, 0 },
	{ "iversion", MS_I_VERSION, 0, 0, 0 },
	{ "noiversion", 0, MS_I_VERSION, 0, 0 },
	{ "acl", MS_POSIXACL, 0, 0, 0 },
	{ "noacl", 0, MS_POSIXACL, 0, 0 },
	{ "lazytime", MS_LAZYTIME, 0, 0, 0 },
	{ "nolazytime", 0, MS_LAZYTIME, 0, 0 },
	{ "defaults", 0, 0, 0, 0 },
	{ "remount", MS_REMOUNT, 0, 0, 0 },
};

static const struct {
	const char *text;
	unsigned long propagation;
} propagations[] = {
	{ "shared", MS_SHARED }, { "slave", MS_SLAVE }, { "private", MS_PRIVATE },
	{ "unbindable", MS_UNBINDABLE },
};

int mount_propagation_parse(const char *word, unsigned long *propagation, bool *tree, struct err *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(propagations); i++) {
		const char *text = propagations[i].text;

		if (!streq(word, text) && !(word[0] == 'r' && streq(word + 1, text)))
			continue;
		*propagation = propagations[i].propagation;
		*tree = word[0] == 'r';
		return 0;
	}
	return err_set(e, ERR_INVALID, "\"%s\" is no mount propagation", word);
}

static const struct word *word_find(const char *text)
{
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (streq(words[i].text, text))
			return &words[i];
	return NULL;
}

static bool special(const char *w, struct mount_options *o)
{
	struct err ignored;

	if (streq(w, "bind")) {
		o->bind = true;
	} else if (streq(w, "rbind")) {
		o->bind = o->bind_tree = true;
	} else if (streq(w, "tmpcopyup")) {
		o->copy_up = true;
	} else if (streq(w, "idmap")) {
		o->idmap = true;
	} else if (streq(w, "ridmap")) {
		o->idmap = o->idmap_tree = true;
	} else {
		return mount_propagation_parse(w, &o->propagation, &o->propagation_tree, &ignored) == 0;
	}
	return true;
}

void mount_options_parse(struct arena *a, char *const *text, struct mount_options *out)
{
	struct mount_options o = { 0 };

	for (; text && *text; text++) {
		const struct word *w = word_find(*text);

		if (w) {
			o.flags = (o.flags & ~w->clear) | w->set;
			o.attr_set = (o.attr_set & ~w->attr_clear) | w->attr_set;
			o.attr_clear = (o.attr_clear & ~w->attr_set) | w->attr_clear;
		} else if (special(*text, &o)) {
			continue;
		} else if (**text == 'r' && (w = word_find(*text + 1)) && (w->attr_set || w->attr_clear)) {
			o.tree_set = (o.tree_set & ~w->attr_clear) | w->attr_set;
			o.tree_clear = (o.tree_clear & ~w->attr_set) | w->attr_clear;
		} else if (**text) {
			o.data = o.data ? arena_printf(a, "%s,%s", o.data, *text) : *text;
		}
	}
	*out = o;
}

int mount_clone(int dirfd, const char *path, bool tree, struct err *e)
{
	int fd = open_tree(dirfd, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (tree ? AT_RECURSIVE : 0) |
			   (*path ? 0 : AT_EMPTY_PATH));

	return fd < 0 ? err_sys(e, errno, "clone the mount at \"%s\" (open_tree)", path) : fd;
}

static int change(int fd, struct mount_attr *attr, bool tree, struct err *e)
{
	/* RELATIME is 0: setting an atime mode means clearing the field. */
	if (attr->attr_set & (MOUNT_ATTR_NOATIME | MOUNT_ATTR_STRICTATIME))
		attr->attr_clr |= MOUNT_ATTR__ATIME;
	if (mount_setattr(fd, "", AT_EMPTY_PATH | (tree ? AT_RECURSIVE : 0), attr, sizeof(*attr)) < 0)
		return err_sys(e, errno, "change a mount's attributes (mount_setattr)");
	return 0;
}

int mount_change(int fd, uint64_t set, uint64_t clear, bool tree, struct err *e)
{
	struct mount_attr attr = { .attr_set = set, .attr_clr = clear };

	return set || clear ? change(fd, &attr, tree, e) : 0;
}

int mount_set_propagation(int fd, unsigned long propagation, bool tree, struct err *e)
{
	struct mount_attr attr = { .propagation = propagation };

	return propagation ? change(fd, &attr, tree, e) : 0;
}

int mount_idmap(int fd, int userns_fd, bool tree, struct err *e)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)userns_fd };

	if (mount_setattr(fd, "", AT_EMPTY_PATH | (tree ? AT_RECURSIVE : 0), &attr, sizeof(attr)) == 0)
		return 0;
	return errno == EINVAL ? err_set(e, ERR_INVALID, "idmap a mount: its file system does not support that, or it "
					 "is idmapped already") : err_sys(e, errno, "idmap a mount");
}

int mount_move_onto(int fd, int at, const char *name, struct err *e)
{
	if (move_mount(fd, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return err_sys(e, errno, "mount onto %s (move_mount)", name);
	return 0;
}

int mount_onto(const struct mount_new *m, int at, const char *name, struct err *e)
{
	struct fd_path path;

	if (mount(m->source, fd_path(&path, at), m->type, m->flags, m->data) < 0)
		return err_sys(e, errno, "mount %s onto %s%s%s", m->type ? m->type : "(bind)", name,
			       m->data ? " with " : "", m->data ? m->data : "");
	return 0;
}

int mount_detached(const char *type, const char *const *options, uint64_t attrs, struct err *e)
{
	auto_fd int fs = fsopen(type, FSOPEN_CLOEXEC);
	int fd;

	if (fs < 0)
		return err_sys(e, errno, "fsopen %s", type);
	for (; options && *options; options++) {
		const char *equals = strchr(*options, '=');
		char key[64];
		int rc;

		if (equals && (size_t)(equals - *options) < sizeof(key)) {
			memcpy(key, *options, (size_t)(equals - *options));
			key[equals - *options] = '\0';
			rc = fsconfig(fs, FSCONFIG_SET_STRING, key, equals + 1, 0);
		} else {
			rc = fsconfig(fs, FSCONFIG_SET_FLAG, *options, NULL, 0);
		}
		if (rc < 0)
			return err_sys(e, errno, "%s option %s", type, *options);
	}
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return err_sys(e, errno, "make a %s", type);
	fd = fsmount(fs, FSMOUNT_CLOEXEC, (unsigned)attrs);
	return fd < 0 ? err_sys(e, errno, "fsmount %s", type) : fd;
}
