#include "pod/container_spec_parts.h"

#include "base/fs.h"

#include <stdlib.h>

#define OPTIONS(...) ((char *[]){ __VA_ARGS__, NULL })

/* What every container has, unless it mounts something there itself. */
static const struct oci_mount basic_mounts[] = {
	{ .destination = (char *)"/proc", .type = (char *)"proc", .source = (char *)"proc",
	  .options = OPTIONS("nosuid", "noexec", "nodev") },
	{ .destination = (char *)"/dev", .type = (char *)"tmpfs", .source = (char *)"tmpfs",
	  .options = OPTIONS("nosuid", "strictatime", "mode=755", "size=65536k") },
	{ .destination = (char *)"/dev/pts", .type = (char *)"devpts", .source = (char *)"devpts",
	  .options = OPTIONS("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5") },
	{ .destination = (char *)"/dev/shm", .type = (char *)"tmpfs", .source = (char *)"shm",
	  .options = OPTIONS("nosuid", "noexec", "nodev", "mode=1777", "size=65536k") },
	{ .destination = (char *)"/dev/mqueue", .type = (char *)"mqueue", .source = (char *)"mqueue",
	  .options = OPTIONS("nosuid", "noexec", "nodev") },
	{ .destination = (char *)"/sys", .type = (char *)"sysfs", .source = (char *)"sysfs",
	  .options = OPTIONS("nosuid", "noexec", "nodev", "ro") },
	{ .destination = (char *)"/sys/fs/cgroup", .type = (char *)"cgroup", .source = (char *)"cgroup",
	  .options = OPTIONS("nosuid", "noexec", "nodev", "relatime", "ro") },
};

/* Whoever owns the network namespace may mount a sysfs: in the node's network no user namespace's root. It is the host's
 * then, without what is mounted below it. */
static const struct oci_mount host_sysfs = {
	.destination = (char *)"/sys", .type = (char *)"bind", .source = (char *)"/sys",
	.options = OPTIONS("bind", "rprivate", "nosuid", "noexec", "nodev", "ro"),
};

static const struct oci_mount *basic_mount(const struct container_spec_input *in, const struct oci_mount *m)
{
	bool host_network = in->pod->namespaces.network == CONFIG_NS_NODE;

	return host_network && config_userns(&in->pod->namespaces) && streq(m->destination, "/sys") ? &host_sysfs : m;
}

/* Privileged containers may write to sysfs and their cgroups. */
static char **writable(struct arena *a, char *const *options)
{
	char **copy = strv_dup(a, options);

	for (char **o = copy; *o; o++) {
		if (streq(*o, "ro"))
			*o = (char *)"rw";
	}
	return copy;
}

/* A mount that a caller wishes or that the pod gives, before all are put in order. */
struct wish {
	struct oci_mount mount;
	unsigned depth;
	size_t number;               /* config->mounts[number]; NO_NUMBER: the pod's */
	size_t order;
};
enum { NO_NUMBER = -1, POD_MOUNTS_MAX = 4 };

static unsigned depth_of(const char *clean_path)
{
	unsigned n = 0;

	for (; *clean_path; clean_path++)
		n += *clean_path == '/';
	return n;
}

static int compare_wishes(const void *x, const void *y)
{
	const struct wish *a = x, *b = y;

	if (a->depth != b->depth)
		return a->depth < b->depth ? -1 : 1;
	return a->order < b->order ? -1 : 1;
}

struct json_vec spec_idmaps(struct arena *a, struct json_vec maps)
{
	const struct config_id_map *in = maps.p;
	struct oci_idmap *out = arena_newn0(a, struct oci_idmap, maps.count + 1);

	for (size_t i = 0; i < maps.count; i++)
		out[i] = (struct oci_idmap){ .container_id = in[i].container_id, .host_id = in[i].host_id,
					     .size = in[i].length };
	return maps.count > 0 ? (struct json_vec){ out, maps.count } : (struct json_vec){ 0 };
}

static const char *const mount_options[] = { "noexec", "nodev", "nosuid" };

static int add_mount_options(struct arena *a, const struct config_mount *m, char ***options, struct err *e)
{
	for (char **o = m->options; o && *o; o++) {
		bool known = false;

		for (size_t i = 0; i < ARRAY_SIZE(mount_options); i++)
			known = known || streq(*o, mount_options[i]);
		if (!known)
			return err_set(e, ERR_INVALID, "mount %s: mount_options: \"%s\" is none of noexec, nodev, nosuid",
				       m->container_path, *o);
		if (!strv_has(*options, *o))
			*options = strv_append(a, *options, *o);
	}
	return 0;
}

static const char *const propagations[] = {
	[CONFIG_PRIVATE] = "rprivate", [CONFIG_HOST_TO_CONTAINER] = "rslave", [CONFIG_BIDIRECTIONAL] = "rshared",
};

/* "rbind" with propagation, read-only in one of three degrees, and what is asked for besides. */
static int mount_wish_options(struct arena *a, const struct config_mount *m, char ***out, struct err *e)
{
	bool image = !str_is_empty(m->image);
	char **options = NULL;

	if ((unsigned)m->propagation >= ARRAY_SIZE(propagations))
		return err_set(e, ERR_INVALID, "mount %s: propagation: unknown value %d", m->container_path,
			       (int)m->propagation);
	if (m->recursive_readonly && !m->readonly && !image)
		return err_set(e, ERR_INVALID, "mount %s: recursive_read_only without readonly", m->container_path);
	if (m->recursive_readonly && m->propagation != CONFIG_PRIVATE)
		return err_set(e, ERR_INVALID, "mount %s: recursive_read_only wants private propagation",
			       m->container_path);
	options = strv_append(a, options, "rbind");
	options = strv_append(a, options, propagations[m->propagation]);
	/* A device that an image brings is none of the container's. */
	if (image)
		options = strv_append(a, options, "nodev");
	options = strv_append(a, options, m->recursive_readonly || image ? "rro" : m->readonly ? "ro" : "rw");
	if (add_mount_options(a, m, &options, e) < 0)
		return -1;
	*out = options;
	return 0;
}

/* A path in the container, whole: CRI allows relative ones, which begin at its root. */
static char *inside(struct arena *a, const char *path)
{
	return path_clean(a, path[0] == '/' ? path : arena_printf(a, "/%s", path));
}

static int wished_mount(struct arena *a, const struct container_spec_input *in, size_t i, struct wish *out,
			struct err *e)
{
	const struct config_mount *m = (const struct config_mount *)in->config->mounts.p + i;
	const char *source = in->mount_sources ? in->mount_sources[i] : NULL;

	if (str_is_empty(m->container_path))
		return err_set(e, ERR_INVALID, "mounts[%zu].container_path is empty", i);
	if (!source)
		source = m->host_path;
	if (str_is_empty(source) || source[0] != '/')
		return err_set(e, ERR_INVALID, "mount %s: host_path \"%s\" is not absolute", m->container_path,
			       source ? source : "");
	*out = (struct wish){ .number = i };
	out->mount = (struct oci_mount){
		.destination = inside(a, m->container_path), .type = (char *)"bind", .source = (char *)source,
		.uid_mappings = spec_idmaps(a, m->uid_maps), .gid_mappings = spec_idmaps(a, m->gid_maps),
	};
	if (m->image) /* mounted with the pod's maps, whatever the mount's */
		out->mount.uid_mappings = out->mount.gid_mappings = (struct json_vec){ 0 };
	if (streq(out->mount.destination, "/"))
		return err_set(e, ERR_INVALID, "mounts[%zu].container_path is the root itself", i);
	return mount_wish_options(a, m, &out->mount.options, e);
}

/* With no type and no option that says so it is a bind too: files older than the type count on it. */
static struct oci_mount cdi_mount(struct arena *a, const struct container_spec_input *in, const struct cdi_mount *m)
{
	char **options = m->options ? strv_dup(a, m->options) : NULL;
	bool tree = options && strv_has(options, "rbind"), bind = tree || (options && strv_has(options, "bind"));

	if (!bind && (str_is_empty(m->type) || streq(m->type, "bind"))) {
		options = strv_append(a, options, "bind");
		bind = true;
	}
	if (bind && config_userns(&in->pod->namespaces) && !(strv_has(options, "idmap") || strv_has(options, "ridmap")))
		options = strv_append(a, options, tree ? "ridmap" : "idmap");
	return (struct oci_mount){ .destination = inside(a, m->container_path), .source = m->host_path, .options = options,
				   .type = str_is_empty(m->type) ? (char *)"bind" : m->type };
}

static size_t cdi_mounts(const struct container_spec_input *in)
{
	size_t n = 0;

	OCI_EACH(cdi_edits, x, in->cdi)
		n += x->mounts.count;
	return n;
}

/* One of the files that a pod's containers share. */
static void pod_mount(struct arena *a, const char *destination, const char *source, bool readonly,
		      struct wish *wishes, size_t *n)
{
	char **options = NULL;

	if (!source)
		return;
	for (size_t i = 0; i < *n; i++) {
		if (streq(wishes[i].mount.destination, destination))
			return;
	}
	options = strv_append(a, options, "rbind");
	options = strv_append(a, options, "rprivate");
	options = strv_append(a, options, readonly ? "ro" : "rw");
	wishes[*n] = (struct wish){ .number = (size_t)NO_NUMBER };
	wishes[(*n)++].mount = (struct oci_mount){ .destination = (char *)destination, .type = (char *)"bind",
						   .source = (char *)source, .options = options };
}

static int all_wishes(struct arena *a, const struct container_spec_input *in, struct wish *wishes, size_t *n,
		      struct err *e)
{
	bool readonly = in->config->readonly_rootfs;

	for (*n = 0; *n < in->config->mounts.count; (*n)++) {
		if (wished_mount(a, in, *n, &wishes[*n], e) < 0)
			return -1;
	}
	OCI_EACH(cdi_edits, x, in->cdi)
		OCI_EACH(cdi_mount, m, x->mounts)
			wishes[(*n)++] = (struct wish){ .number = (size_t)NO_NUMBER, .mount = cdi_mount(a, in, m) };
	pod_mount(a, "/etc/hostname", in->hostname_path, readonly, wishes, n);
	pod_mount(a, "/etc/hosts", in->hosts_path, readonly, wishes, n);
	pod_mount(a, "/etc/resolv.conf", in->resolv_conf_path, readonly, wishes, n);
	pod_mount(a, "/dev/shm", in->shm_path, false, wishes, n);
	for (size_t i = 0; i < *n; i++) {
		wishes[i].depth = depth_of(wishes[i].mount.destination);
		wishes[i].order = i;
	}
	qsort(wishes, *n, sizeof(*wishes), compare_wishes);
	return 0;
}

/* A basic mount gives way to a wished one at its place, and all below /dev to a wished /dev. */
static bool is_replaced(const char *destination, const struct wish *wishes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const char *wished = wishes[i].mount.destination;

		if (streq(wished, destination) || (streq(wished, "/dev") && starts_with(destination, "/dev/")))
			return true;
	}
	return false;
}

/* What a slave or shared mount needs of the mounts above it: a root that is no private one. */
static const char *root_propagation(const struct container_config *c)
{
	const char *found = NULL;

	OCI_EACH(config_mount, m, c->mounts) {
		if (m->propagation == CONFIG_BIDIRECTIONAL)
			return "rshared";
		if (m->propagation == CONFIG_HOST_TO_CONTAINER)
			found = "rslave";
	}
	return found;
}

int spec_mounts(struct arena *a, const struct container_spec_input *in, struct oci_config *c, size_t **mount_at,
		struct err *e)
{
	size_t wished = in->config->mounts.count, n, count = 0;
	struct wish *wishes = arena_newn0(a, struct wish, wished + POD_MOUNTS_MAX + cdi_mounts(in));
	size_t *at = arena_newn0(a, size_t, wished + 1);
	struct oci_mount *mounts;

	if (all_wishes(a, in, wishes, &n, e) < 0)
		return -1;
	mounts = arena_newn0(a, struct oci_mount, ARRAY_SIZE(basic_mounts) + n);
	for (size_t i = 0; i < ARRAY_SIZE(basic_mounts); i++) {
		if (is_replaced(basic_mounts[i].destination, wishes, n))
			continue;
		mounts[count] = *basic_mount(in, &basic_mounts[i]);
		if (config_is_privileged(in))
			mounts[count].options = writable(a, mounts[count].options);
		count++;
	}
	for (size_t i = 0; i < n; i++) {
		if (wishes[i].number != (size_t)NO_NUMBER)
			at[wishes[i].number] = count;
		mounts[count++] = wishes[i].mount;
	}
	c->mounts = (struct json_vec){ mounts, count };
	c->on_linux->rootfs_propagation = (char *)root_propagation(in->config);
	*mount_at = at;
	return 0;
}
