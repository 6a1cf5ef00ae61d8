#include "spec/cdi.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define F(type, member, key, kind) { key, kind, offsetof(struct type, member), 0, NULL, 0 }
#define OBJ(type, member, key, kind, fields, sub) \
	{ key, kind, offsetof(struct type, member), 0, fields, sizeof(struct sub) }

static const struct json_field device_node_fields[] = {
	F(cdi_device_node, path, "path", JSON_STR),
	F(cdi_device_node, host_path, "hostPath", JSON_STR),
	F(cdi_device_node, type, "type", JSON_STR),
	F(cdi_device_node, major, "major", JSON_I64),
	F(cdi_device_node, minor, "minor", JSON_I64),
	F(cdi_device_node, file_mode, "fileMode", JSON_OPT_U32),
	F(cdi_device_node, permissions, "permissions", JSON_STR),
	F(cdi_device_node, uid, "uid", JSON_OPT_U32),
	F(cdi_device_node, gid, "gid", JSON_OPT_U32),
	{ 0 },
};

static const struct json_field net_device_fields[] = {
	F(cdi_net_device, host_name, "hostInterfaceName", JSON_STR),
	F(cdi_net_device, name, "name", JSON_STR),
	{ 0 },
};

static const struct json_field mount_fields[] = {
	F(cdi_mount, host_path, "hostPath", JSON_STR),
	F(cdi_mount, container_path, "containerPath", JSON_STR),
	F(cdi_mount, type, "type", JSON_STR),
	F(cdi_mount, options, "options", JSON_STRV),
	{ 0 },
};

static const struct json_field hook_fields[] = {
	F(cdi_hook, name, "hookName", JSON_STR),
	F(cdi_hook, path, "path", JSON_STR),
	F(cdi_hook, args, "args", JSON_STRV),
	F(cdi_hook, env, "env", JSON_STRV),
	F(cdi_hook, timeout, "timeout", JSON_OPT_I64),
	{ 0 },
};

static const struct json_field rdt_fields[] = {
	F(oci_intel_rdt, clos_id, "closID", JSON_STR),
	F(oci_intel_rdt, l3_cache_schema, "l3CacheSchema", JSON_STR),
	F(oci_intel_rdt, mem_bw_schema, "memBwSchema", JSON_STR),
	F(oci_intel_rdt, schemata, "schemata", JSON_STRV),
	F(oci_intel_rdt, enable_monitoring, "enableMonitoring", JSON_BOOL),
	F(oci_intel_rdt, enable_cmt, "enableCMT", JSON_BOOL), /* until 1.0.0 */
	F(oci_intel_rdt, enable_mbm, "enableMBM", JSON_BOOL),
	{ 0 },
};

static const struct json_field edits_fields[] = {
	F(cdi_edits, env, "env", JSON_STRV),
	OBJ(cdi_edits, device_nodes, "deviceNodes", JSON_OBJV, device_node_fields, cdi_device_node),
	OBJ(cdi_edits, net_devices, "netDevices", JSON_OBJV, net_device_fields, cdi_net_device),
	OBJ(cdi_edits, mounts, "mounts", JSON_OBJV, mount_fields, cdi_mount),
	OBJ(cdi_edits, hooks, "hooks", JSON_OBJV, hook_fields, cdi_hook),
	F(cdi_edits, additional_gids, "additionalGids", JSON_U32V),
	OBJ(cdi_edits, intel_rdt, "intelRdt", JSON_OBJ, rdt_fields, oci_intel_rdt),
	{ 0 },
};

static const struct json_field device_fields[] = {
	F(cdi_device, name, "name", JSON_STR),
	F(cdi_device, annotations, "annotations", JSON_ANY),
	OBJ(cdi_device, edits, "containerEdits", JSON_SUB, edits_fields, cdi_edits),
	{ 0 },
};

static const struct json_field spec_fields[] = {
	F(cdi_spec, version, "cdiVersion", JSON_STR),
	F(cdi_spec, kind, "kind", JSON_STR),
	F(cdi_spec, annotations, "annotations", JSON_ANY),
	OBJ(cdi_spec, devices, "devices", JSON_OBJV, device_fields, cdi_device),
	OBJ(cdi_spec, edits, "containerEdits", JSON_SUB, edits_fields, cdi_edits),
	{ 0 },
};

/* --- names ----------------------------------------------------------------------------------------- */

static bool is_alnum(char c)
{
	return isalnum((unsigned char)c) != 0;
}

/* Letters and digits, and between them some of `marks`. */
static bool is_name(struct str s, const char *marks)
{
	if (s.len == 0 || !is_alnum(s.p[0]) || !is_alnum(s.p[s.len - 1]))
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (!is_alnum(s.p[i]) && !strchr(marks, s.p[i]))
			return false;
	return true;
}

/* The specification says DNS labels and at most 63 bytes; its own implementation takes what vendors write. */
static bool is_kind(struct str kind)
{
	struct str class = kind, vendor = str_cut(&class, '/');

	return class.p && is_name(vendor, "-_.") && isalpha((unsigned char)vendor.p[0]) && is_name(class, "-_.") &&
	       isalpha((unsigned char)class.p[0]);
}

int cdi_name_parse(const char *text, struct cdi_name *out, struct err *e)
{
	struct str device = str_of(text), kind = str_cut(&device, '=');

	if (!device.p || !is_kind(kind) || !is_name(device, "-_.:"))
		return err_set(e, ERR_INVALID, "CDI device \"%.200s\": it is not of the form vendor.com/class=name", text);
	*out = (struct cdi_name){ kind, device };
	return 0;
}

/* --- versions -------------------------------------------------------------------------------------- */

enum { V_0_3 = 3, V_0_4 = 4, V_0_5 = 5, V_0_6 = 6, V_0_7 = 7, V_1_1 = 101 };

static int version_number(const char *text, struct err *e)
{
	static const struct { const char *text; int number; } known[] = {
		{ "0.1.0", V_0_3 }, { "0.2.0", V_0_3 }, { "0.3.0", V_0_3 }, { "0.3.1", V_0_3 }, { "0.3.2", V_0_3 },
		{ "0.4.0", V_0_4 }, { "0.5.0", V_0_5 }, { "0.6.0", V_0_6 }, { "0.7.0", V_0_7 }, { "0.8.0", V_0_7 },
		{ "0.8.1", V_0_7 }, { "1.0.0", V_0_7 }, { "1.0.1", V_0_7 }, { "1.1.0", V_1_1 },
	};

	for (size_t i = 0; text && i < ARRAY_SIZE(known); i++)
		if (streq(text[0] == 'v' ? text + 1 : text, known[i].text))
			return known[i].number;
	return err_set(e, ERR_INVALID, "cdiVersion \"%.40s\" is none of 0.1.0 to 1.1.0", text ? text : "");
}

/* The youngest field in use. */
struct needs {
	int version;
	const char *field;
};

static void need(struct needs *n, int version, const char *field)
{
	if (version > n->version)
		*n = (struct needs){ version, field };
}

static void edits_need(const struct cdi_edits *x, struct needs *n)
{
	OCI_EACH(cdi_mount, m, x->mounts)
		if (m->type)
			need(n, V_0_4, "mounts.type");
	OCI_EACH(cdi_device_node, d, x->device_nodes)
		if (d->host_path)
			need(n, V_0_5, "deviceNodes.hostPath");
	if (x->intel_rdt)
		need(n, V_0_7, "intelRdt");
	if (x->additional_gids.count)
		need(n, V_0_7, "additionalGids");
	if (x->net_devices.count)
		need(n, V_1_1, "netDevices");
	if (x->intel_rdt && (x->intel_rdt->schemata || x->intel_rdt->enable_monitoring))
		need(n, V_1_1, "intelRdt.schemata and .enableMonitoring");
}

static int check_version(const struct cdi_spec *s, struct err *e)
{
	struct needs n = { 0, NULL };
	struct str class = str_of(s->kind);
	int given = version_number(s->version, e);

	if (given < 0)
		return -1;
	(void)str_cut(&class, '/');
	if (s->annotations)
		need(&n, V_0_6, "annotations");
	if (memchr(class.p, '.', class.len))
		need(&n, V_0_6, "a dot in the class of kind");
	edits_need(&s->edits, &n);
	OCI_EACH(cdi_device, d, s->devices) {
		if (d->annotations)
			need(&n, V_0_6, "annotations");
		if (isdigit((unsigned char)d->name[0]))
			need(&n, V_0_5, "a device's name that begins with a digit");
		edits_need(&d->edits, &n);
	}
	return n.version > given ? err_set(e, ERR_INVALID, "cdiVersion %s has no %s", s->version, n.field) : 0;
}

/* --- edits ----------------------------------------------------------------------------------------- */

static int check_env(char *const *env, struct err *e)
{
	for (; env && *env; env++)
		if (!strchr(*env, '=') || **env == '=')
			return err_set(e, ERR_INVALID, "env: \"%.100s\" is not NAME=VALUE", *env);
	return 0;
}

static int check_path(const char *path, const char *field, struct err *e)
{
	if (str_is_empty(path))
		return err_set(e, ERR_INVALID, "%s is empty", field);
	return path[0] == '/' ? 0 : err_set(e, ERR_INVALID, "%s \"%.200s\" is not absolute", field, path);
}

static int check_node(const struct cdi_device_node *d, struct err *e)
{
	if (check_path(d->path, "deviceNodes.path", e) < 0 ||
	    (d->host_path && check_path(d->host_path, "deviceNodes.hostPath", e) < 0))
		return -1;
	if (d->type && (strlen(d->type) != 1 || !strchr("bcup", d->type[0])))
		return err_set(e, ERR_INVALID, "deviceNodes.type \"%.20s\" of %s is none of b, c, u, p", d->type, d->path);
	if (d->permissions && !streq(d->permissions, "none") && strspn(d->permissions, "rwm") != strlen(d->permissions))
		return err_set(e, ERR_INVALID, "deviceNodes.permissions \"%.20s\" of %s are not of r, w, m", d->permissions,
			       d->path);
	if (d->major < 0 || d->minor < 0 || d->major > UINT32_MAX || d->minor > UINT32_MAX)
		return err_set(e, ERR_INVALID, "deviceNodes.major and .minor of %s are no device number", d->path);
	return 0;
}

static const char *const hook_names[] = { "prestart", "createRuntime", "createContainer", "startContainer", "poststart",
					  "poststop" };

static int check_hook(const struct cdi_hook *h, struct err *e)
{
	bool known = false;

	for (size_t i = 0; i < ARRAY_SIZE(hook_names); i++)
		known = known || streq_null(h->name, hook_names[i]);
	if (!known)
		return err_set(e, ERR_INVALID, "hooks.hookName \"%.40s\" is no hook", h->name ? h->name : "");
	if (h->timeout && *h->timeout <= 0)
		return err_set(e, ERR_INVALID, "hooks.timeout is not above 0");
	return check_path(h->path, "hooks.path", e) < 0 || check_env(h->env, e) < 0 ? -1 : 0;
}

static int check_rdt(const struct oci_intel_rdt *r, struct err *e)
{
	const char *c = r ? r->clos_id : NULL;

	if (c && !streq(c, "/") && (strlen(c) >= 4096 || streq(c, ".") || streq(c, "..") || strpbrk(c, "/\n")))
		return err_set(e, ERR_INVALID, "intelRdt.closID \"%.40s\" is no file name", c);
	return 0;
}

static int check_net_devices(const struct json_vec *v, struct err *e)
{
	const struct cdi_net_device *d = v->p;

	for (size_t i = 0; i < v->count; i++) {
		if (str_is_empty(d[i].host_name) || str_is_empty(d[i].name))
			return err_set(e, ERR_INVALID, "netDevices: hostInterfaceName or name is empty");
		for (size_t j = 0; j < i; j++)
			if (streq(d[i].host_name, d[j].host_name) || streq(d[i].name, d[j].name))
				return err_set(e, ERR_INVALID, "netDevices: %.40s comes twice", d[i].host_name);
	}
	return 0;
}

static int check_edits(const struct cdi_edits *x, struct err *e)
{
	if (check_env(x->env, e) < 0 || check_rdt(x->intel_rdt, e) < 0 || check_net_devices(&x->net_devices, e) < 0)
		return -1;
	OCI_EACH(cdi_device_node, d, x->device_nodes)
		if (check_node(d, e) < 0)
			return -1;
	OCI_EACH(cdi_hook, h, x->hooks)
		if (check_hook(h, e) < 0)
			return -1;
	OCI_EACH(cdi_mount, m, x->mounts)
		if (check_path(m->container_path, "mounts.containerPath", e) < 0 ||
		    (str_is_empty(m->host_path) && err_set(e, ERR_INVALID, "mounts.hostPath is empty") < 0))
			return -1;
	return 0;
}

static bool is_empty(const struct cdi_edits *x)
{
	return !strv_len(x->env) && !x->device_nodes.count && !x->net_devices.count && !x->mounts.count &&
	       !x->hooks.count && !x->additional_gids.count && !x->intel_rdt;
}

static int check_devices(const struct json_vec *v, struct err *e)
{
	const struct cdi_device *d = v->p;

	if (v->count == 0)
		return err_set(e, ERR_INVALID, "devices is empty");
	for (size_t i = 0; i < v->count; i++) {
		if (!d[i].name || !is_name(str_of(d[i].name), "-_.:"))
			return err_set(e, ERR_INVALID, "devices: \"%.100s\" is no name", d[i].name ? d[i].name : "");
		for (size_t j = 0; j < i; j++)
			if (streq(d[i].name, d[j].name))
				return err_set(e, ERR_INVALID, "devices: %s comes twice", d[i].name);
		if (is_empty(&d[i].edits))
			return err_set(e, ERR_INVALID, "device %s has no containerEdits", d[i].name);
		if (check_edits(&d[i].edits, e) < 0)
			return err_in(e, "device %s", d[i].name);
	}
	return 0;
}

int cdi_spec_read(struct arena *a, const struct json *doc, struct cdi_spec *out, struct err *e)
{
	struct cdi_spec s = { 0 };

	if (doc->type != JSON_OBJECT)
		return err_set(e, ERR_INVALID, "this is no CDI specification");
	if (json_read(a, doc, spec_fields, JSON_STRICT, &s, e) < 0)
		return -1;
	if (!s.kind || !is_kind(str_of(s.kind)))
		return err_set(e, ERR_INVALID, "kind \"%.200s\" is not of the form vendor.com/class", s.kind ? s.kind : "");
	if (check_devices(&s.devices, e) < 0 || check_edits(&s.edits, e) < 0 || check_version(&s, e) < 0)
		return -1;
	*out = s;
	return 0;
}
