/* What a pod has in the file system: the files that its containers share, /dev/shm, and the name of
 * its network namespace. All of it lies in run/pods/ID but the last. */
#include "pod/model.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { FILE_MAX = 1 << 20 };

static int sys_open_tree(int fd, const char *path, unsigned flags)
{
	return (int)syscall(SYS_open_tree, fd, path, flags);
}

static int sys_move_mount(int from, const char *from_path, int to, const char *to_path, unsigned flags)
{
	return (int)syscall(SYS_move_mount, from, from_path, to, to_path, flags);
}

/* --- files ------------------------------------------------------------------------------------------ */

static int write_file(struct pod *p, const char *name, struct str text, struct err *e)
{
	auto_fd int fd = fd_create(p->run_dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0644, e);

	if (fd < 0)
		return -1;
	return fd_write_all(fd, text.p, text.len, e) < 0 ? -1 : pod_give_to_root(p, fd, e);
}

/* A file of the host's, as it is now; where there is none, there is none in the pod. */
static int copy_file(struct pod *p, const char *from, const char *name, struct err *e)
{
	auto_arena a = { 0 };
	struct str text;

	if (fs_read_file(&a, AT_FDCWD, from, FILE_MAX, &text, e) < 0)
		return e->kind == ERR_NOT_FOUND ? 0 : -1;
	return write_file(p, name, text, e);
}

static int add_line(struct buf *b, const char *word, char *const *values, struct err *e)
{
	if (!values || !values[0])
		return 0;
	if (buf_addz(b, word, e) < 0)
		return -1;
	for (; *values; values++)
		if (buf_addf(b, e, " %s", *values) < 0)
			return -1;
	return buf_add(b, "\n", 1, e);
}

static int resolv_conf(struct pod *p, struct err *e)
{
	const struct pod_config *c = p->config;
	auto_buf b = BUF(FILE_MAX);

	if (!c->dns_given)
		return copy_file(p, p->all->settings.resolv_conf, "resolv.conf", e);
	if (add_line(&b, "search", c->dns_searches, e) < 0)
		return -1;
	for (char **s = c->dns_servers; s && *s; s++)
		if (buf_addf(&b, e, "nameserver %s\n", *s) < 0)
			return -1;
	if (add_line(&b, "options", c->dns_options, e) < 0)
		return -1;
	return write_file(p, "resolv.conf", buf_str(&b), e);
}

static const char *hostname_of(const struct pod *p, char own[256])
{
	if (!str_is_empty(p->config->hostname))
		return p->config->hostname;
	if (gethostname(own, 255) < 0)
		own[0] = '\0';
	own[255] = '\0';
	return own;
}

int pod_files_make(struct pod *p, struct err *e)
{
	auto_arena a = { 0 };
	char own[256];
	const char *name = arena_printf(&a, "%s\n", hostname_of(p, own));

	if (resolv_conf(p, e) < 0)
		return -1;
	return write_file(p, "hostname", str_of(name), e);
}

int pod_hosts_make(struct pod *p, struct err *e)
{
	auto_buf b = BUF(FILE_MAX);
	char own[256];

	if (!p->ips)
		return copy_file(p, "/etc/hosts", "hosts", e);
	if (buf_addz(&b, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n", e) < 0 ||
	    buf_addf(&b, e, "%s\t%s\n", p->ips[0], hostname_of(p, own)) < 0)
		return -1;
	return write_file(p, "hosts", buf_str(&b), e);
}

/* --- /dev/shm ----------------------------------------------------------------------------------------- */

bool pod_shares_shm(const struct pod *p)
{
	return p->config->namespaces.ipc == CONFIG_NS_POD;
}

static int shm_mount(uint64_t bytes, struct err *e)
{
	auto_fd int fs = (int)syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);
	char size[32];
	int mount;

	(void)snprintf(size, sizeof(size), "%llu", (unsigned long long)bytes);
	if (fs < 0 || syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "mode", "1777", 0) < 0 ||
	    syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "size", size, 0) < 0 ||
	    syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "source", "shm", 0) < 0 ||
	    syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return err_sys(e, errno, "make a tmpfs of %s bytes for /dev/shm (fsopen, fsconfig)", size);
	mount = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
			     MOUNT_ATTR_NOEXEC);
	return mount < 0 ? err_sys(e, errno, "fsmount /dev/shm") : mount;
}

int pod_shm_make(struct pod *p, struct err *e)
{
	auto_fd int mount = -1;

	if (!pod_shares_shm(p))
		return 0;
	if (mkdirat(p->run_dirfd, "shm", 0700) < 0 && errno != EEXIST)
		return err_sys(e, errno, "mkdir shm of pod %s", p->id);
	mount = shm_mount(p->all->settings.shm_bytes, e);
	if (mount < 0 || pod_give_to_root(p, mount, e) < 0)
		return -1;
	if (sys_move_mount(mount, "", p->run_dirfd, "shm", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_sys(e, errno, "mount /dev/shm of pod %s (move_mount)", p->id);
	return 0;
}

/* Takes away every mount that sits there; that there is none is fine. */
static int unmount_all(const char *path, struct err *e)
{
	while (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
		;
	if (errno != EINVAL && errno != ENOENT)
		return err_sys(e, errno, "unmount %s (umount2)", path);
	return 0;
}

int pod_shm_remove(struct pod *p, struct err *e)
{
	auto_arena a = { 0 };

	return unmount_all(pod_run_path(&a, p, "shm"), e);
}

/* --- the network namespace's name ---------------------------------------------------------------------- */

static const char *netns_name(struct arena *a, const struct pod *p)
{
	return arena_printf(a, "knarr-%s", p->id);
}

int pod_netns_bind(struct pod *p, int netns_fd, struct err *e)
{
	auto_arena a = { 0 };
	const char *name = netns_name(&a, p);
	auto_fd int tree = -1, file = -1;

	file = fd_create(p->all->netns_fd, name, O_RDONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0444, e);
	if (file < 0)
		return -1;
	tree = sys_open_tree(netns_fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
	if (tree < 0)
		return err_sys(e, errno, "clone the mount of network namespace %s (open_tree)", name);
	if (sys_move_mount(tree, "", file, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return err_sys(e, errno, "mount network namespace %s", name);
	return 0;
}

int pod_netns_unbind(struct pod *p, struct err *e)
{
	auto_arena a = { 0 };
	const char *name = netns_name(&a, p);

	if (unmount_all(path_join(&a, p->all->settings.netns_dir, name), e) < 0)
		return -1;
	return fs_remove_file(p->all->netns_fd, name, e);
}
