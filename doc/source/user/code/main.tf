terraform {
  required_providers {
    openstack = {
      source = "terraform-provider-openstack/openstack"
    }
  }
}

resource "openstack_compute_flavor_v2" "du" {
  name  = "nfv.du"
  vcpus = 2
  ram   = 64
  disk  = 1
  extra_specs = {
    "hw:cpu_policy"              = "dedicated"
    "kongming:node.0"            = "1"
    "kongming:pin.0"             = "0:15 1:14"
    "kongming:grant"             = "template"
    "trait:CUSTOM_KONGMING_HOOK" = "required"
  }
}

resource "openstack_compute_instance_v2" "du" {
  name         = "du-1"
  flavor_id    = openstack_compute_flavor_v2.du.id
  image_name   = "idle"
  network_mode = "none"
  metadata = {
    "kongming:pin.0" = "0:13 1:10"
  }
}
