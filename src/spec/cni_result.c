#include "spec/cni_result.h"

#include "spec/cni_conf.h"

#include <arpa/inet.h>
#include <string.h>

static const struct json_field interface_fields[] = {
	{ "name", JSON_STR, offsetof(struct cni_interface, name), JSON_REQUIRED },
	{ "mac", JSON_STR, offsetof(struct cni_interface, mac) },
	{ "sandbox", JSON_STR, offsetof(struct cni_interface, sandbox) },
	{ 0 },
};

struct ip_fields {
	char *address, *gateway;
	int32_t *interface;
};

static const struct json_field ip_fields[] = {
	{ "address", JSON_STR, offsetof(struct ip_fields, address), JSON_REQUIRED },
	{ "gateway", JSON_STR, offsetof(struct ip_fields, gateway) },
	{ "interface", JSON_OPT_I32, offsetof(struct ip_fields, interface) },
	{ 0 },
};

/* Before 0.3.0 a result had at most one address of each family. */
struct old_ip {
	char *ip;
};

static const struct json_field old_ip_fields[] = {
	{ "ip", JSON_STR, offsetof(struct old_ip, ip), JSON_REQUIRED },
	{ 0 },
};

struct result_fields {
	char *version;
	struct json_vec interfaces, ips;
	struct old_ip *ip4, *ip6;
};

static const struct json_field result_fields[] = {
	{ "cniVersion", JSON_STR, offsetof(struct result_fields, version) },
	{ "interfaces", JSON_OBJV, offsetof(struct result_fields, interfaces), 0, interface_fields,
	  sizeof(struct cni_interface) },
	{ "ips", JSON_OBJV, offsetof(struct result_fields, ips), 0, ip_fields, sizeof(struct ip_fields) },
	{ 0 },
};

static const struct json_field old_result_fields[] = {
	{ "ip4", JSON_OBJ, offsetof(struct result_fields, ip4), 0, old_ip_fields, sizeof(struct old_ip) },
	{ "ip6", JSON_OBJ, offsetof(struct result_fields, ip6), 0, old_ip_fields, sizeof(struct old_ip) },
	{ 0 },
};

/* "10.1.2.3/24" or "fd00::3/64". */
static int address_read(struct arena *a, const char *text, struct cni_ip *out, struct err *e)
{
	const char *slash = strchr(text, '/');
	unsigned char bytes[sizeof(struct in6_addr)];
	struct err ignored;
	uint64_t prefix;
	char *address;
	bool v6;

	if (!slash)
		return err_set(e, ERR_INVALID, "\"%.100s\" is no address with a prefix length", text);
	address = arena_strndup(a, text, (size_t)(slash - text));
	v6 = strchr(address, ':') != NULL;
	if (inet_pton(v6 ? AF_INET6 : AF_INET, address, bytes) != 1 ||
	    str_to_u64(str_of(slash + 1), &prefix, &ignored) < 0 || prefix > (v6 ? 128 : 32))
		return err_set(e, ERR_INVALID, "\"%.100s\" is no address with a prefix length", text);
	*out = (struct cni_ip){ address, v6, -1 };
	return 0;
}

static int ips_read(struct arena *a, const struct result_fields *f, struct cni_result *r, struct err *e)
{
	const struct ip_fields *from = f->ips.p;
	struct cni_ip *ips = arena_newn0(a, struct cni_ip, f->ips.count + 1);

	for (size_t i = 0; i < f->ips.count; i++) {
		if (address_read(a, from[i].address, &ips[i], e) < 0)
			return err_in(e, "ips[%zu]", i);
		if (!from[i].interface)
			continue;
		if (*from[i].interface < 0 || (size_t)*from[i].interface >= r->ninterfaces)
			return err_set(e, ERR_INVALID, "ips[%zu]: there is no interface %d", i, *from[i].interface);
		ips[i].interface = *from[i].interface;
	}
	r->ips = ips;
	r->nips = f->ips.count;
	return 0;
}

static int old_ips_read(struct arena *a, const struct result_fields *f, struct cni_result *r, struct err *e)
{
	struct cni_ip *ips = arena_newn0(a, struct cni_ip, 2);
	const struct old_ip *from[] = { f->ip4, f->ip6 };

	for (size_t i = 0; i < ARRAY_SIZE(from); i++)
		if (from[i] && address_read(a, from[i]->ip, &ips[r->nips++], e) < 0)
			return err_in(e, "ip%s", i ? "6" : "4");
	r->ips = ips;
	return 0;
}

int cni_result_read(struct arena *a, const struct json *doc, const char *version, struct cni_result *out,
		    struct err *e)
{
	struct result_fields f = { 0 };
	struct cni_result r = { .doc = doc };
	bool old;

	if (json_read(a, doc, result_fields, 0, &f, e) < 0)
		return -1;
	if (f.version && *f.version) {
		if (!cni_version_is_known(f.version))
			return err_set(e, ERR_INVALID, "cniVersion %.100s is not known (known: 0.1.0 to 1.1.0)",
				       f.version);
		version = f.version;
	}
	r.interfaces = f.interfaces.p;
	r.ninterfaces = f.interfaces.count;
	old = cni_version_compare(version, "0.3.0") < 0;
	if (old && json_read(a, doc, old_result_fields, 0, &f, e) < 0)
		return -1;
	if ((old ? old_ips_read(a, &f, &r, e) : ips_read(a, &f, &r, e)) < 0)
		return -1;
	*out = r;
	return 0;
}

int cni_result_parse(struct arena *a, struct str text, const char *version, struct cni_result *out,
		     struct err *e)
{
	struct json *doc;

	if (json_parse(a, text, &doc, e) < 0)
		return -1;
	return cni_result_read(a, doc, version, out, e);
}

const struct cni_interface *cni_result_interface(const struct cni_result *r, const char *name)
{
	for (size_t i = 0; i < r->ninterfaces; i++)
		if (streq(r->interfaces[i].name, name) && !str_is_empty(r->interfaces[i].sandbox))
			return &r->interfaces[i];
	return NULL;
}

static bool ip_is_of(const struct cni_result *r, const struct cni_ip *ip, const struct cni_interface *i)
{
	return ip->interface < 0 || !i || &r->interfaces[ip->interface] == i;
}

char **cni_result_ips_of(struct arena *a, const struct cni_result *r, const char *interface)
{
	const struct cni_interface *of = cni_result_interface(r, interface);
	char **out = arena_newn0(a, char *, r->nips + 1);
	size_t n = 0;

	for (int v6 = 0; v6 <= 1; v6++)
		for (size_t i = 0; i < r->nips; i++)
			if (r->ips[i].is_v6 == v6 && ip_is_of(r, &r->ips[i], of))
				out[n++] = arena_strdup(a, r->ips[i].address);
	return out;
}

static const struct json_field error_fields[] = {
	{ "code", JSON_U32, offsetof(struct cni_error, code) },
	{ "msg", JSON_STR, offsetof(struct cni_error, msg) },
	{ "details", JSON_STR, offsetof(struct cni_error, details) },
	{ 0 },
};

int cni_error_parse(struct arena *a, struct str text, struct cni_error *out, struct err *e)
{
	struct cni_error f = { 0 };

	if (json_load(a, text, error_fields, 0, &f, e) < 0)
		return -1;
	if (!f.code && str_is_empty(f.msg))
		return err_set(e, ERR_INVALID, "neither a code nor a message");
	if (!f.msg)
		f.msg = arena_strdup(a, "");
	if (!f.details)
		f.details = arena_strdup(a, "");
	*out = f;
	return 0;
}
