#include "runtime/oci.h"

#include "base/fd.h"
#include "base/str.h"
#include "runtime/rdt.h"

static const struct oci_intel_rdt *wish_of(const struct oci_config *c)
{
	return c->on_linux ? c->on_linux->intel_rdt : NULL;
}

int oci_rdt_create(struct oci_app *app, const struct oci_config *c, struct oci_record *r, int *tasks_fd, struct err *e)
{
	struct rdt made = RDT_INIT;
	auto_fd int mount = -1;

	if (!wish_of(c))
		return 0;
	if (rdt_open(&mount, e) < 0 || rdt_create(&app->arena, mount, r->id, wish_of(c), &made, e) < 0)
		return -1;
	r->rdt_group = made.made_group ? made.group : NULL;
	r->rdt_monitor = made.monitor;
	*tasks_fd = made.tasks_fd;
	return 0;
}

int oci_rdt_join(struct oci_app *app, const struct oci_config *c, const struct oci_record *r, int *tasks_fd,
		 struct err *e)
{
	struct rdt joined = RDT_INIT;
	auto_fd int mount = -1;

	if (!wish_of(c))
		return 0;
	if (rdt_open(&mount, e) < 0 || rdt_join(&app->arena, mount, r->id, wish_of(c), &joined, e) < 0)
		return -1;
	*tasks_fd = joined.tasks_fd;
	return 0;
}

int oci_rdt_update(struct oci_app *app, const struct oci_record *r, const char *l3, const char *bandwidth, struct err *e)
{
	const struct oci_intel_rdt *wish;
	struct oci_config c;
	auto_fd int mount = -1;

	if (rdt_open(&mount, e) < 0 || oci_bundle_load(app, r->bundle, &c, e) < 0)
		return -1;
	wish = wish_of(&c);
	if (!wish)
		return err_set(e, ERR_STATE, "container %s was made without linux.intelRdt", r->id);
	return rdt_write_schema(mount, str_is_empty(wish->clos_id) ? r->id : streq(wish->clos_id, "/") ? "" : wish->clos_id, l3,
				bandwidth, e);
}

int oci_rdt_remove(const struct oci_record *r, struct err *e)
{
	struct rdt made = { .group = r->rdt_group, .monitor = r->rdt_monitor, .made_group = r->rdt_group, .tasks_fd = -1 };
	auto_fd int mount = -1;

	if (!r->rdt_group && !r->rdt_monitor)
		return 0;
	return rdt_open(&mount, e) < 0 ? -1 : rdt_remove(mount, &made, e);
}
