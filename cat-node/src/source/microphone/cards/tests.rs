//! Cards as the kernel reports them, in a folder that plays the root of the file system.

use super::*;

/// A machine with an HDMI output, two microphones of one make and a webcam, as the kernel reports it.
fn machine() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let cards = " 0 [vc4hdmi        ]: vc4-hdmi - vc4-hdmi\n                      vc4-hdmi\n \
                 1 [Device         ]: USB-Audio - USB PnP Sound Device\n                      \
                 C-Media Electronics Inc. USB PnP Sound Device at usb-0000:01:00.0-1.4, full speed\n \
                 2 [Device_1       ]: USB-Audio - USB PnP Sound Device\n                      \
                 C-Media Electronics Inc. USB PnP Sound Device at usb-0000:01:00.0-1.3, full speed\n \
                 3 [Cam            ]: USB-Audio - HD Webcam C270\n                      \
                 HD Webcam C270 at usb-0000:01:00.0-1.1, high speed\n";
    write("proc/asound/cards", cards);
    write("proc/asound/card0/pcm0p/info", "");
    for (index, port, id, serial) in
        [(1, "1-1.4", "0d8c:013c", None), (2, "1-1.3", "0d8c:013c", None), (3, "1-1.1", "046d:0825", Some("5B97E0A0"))]
    {
        write(&format!("proc/asound/card{index}/pcm0c/info"), "");
        let device = format!("sys/devices/usb1/{port}");
        let (vendor, product) = id.split_once(':').unwrap();
        write(&format!("{device}/idVendor"), &format!("{vendor}\n"));
        write(&format!("{device}/idProduct"), &format!("{product}\n"));
        if let Some(serial) = serial {
            write(&format!("{device}/serial"), &format!("{serial}\n"));
        }
        write(&format!("{device}/{port}:1.0/bInterfaceClass"), "01");
        fs::create_dir_all(root.path().join(format!("sys/class/sound/card{index}"))).unwrap();
        let target = root.path().join(format!("{device}/{port}:1.0"));
        std::os::unix::fs::symlink(target, root.path().join(format!("sys/class/sound/card{index}/device"))).unwrap();
    }
    root
}

fn index_of(id: &str, cards: &[Card]) -> Option<u32> {
    match resolve(id, cards) {
        Meaning::Card(card) => Some(card.index),
        Meaning::Other => None,
    }
}

#[test]
fn cards_are_read_with_all_that_names_them() {
    let root = machine();
    let cards = cards_in(root.path());
    assert_eq!(cards.len(), 3, "the HDMI output captures nothing: {cards:?}");
    let webcam = Card {
        index: 3,
        id: "Cam".into(),
        name: "HD Webcam C270".into(),
        usb_port: Some("usb-0000:01:00.0-1.1".into()),
        usb_path: Some("1-1.1".into()),
        usb_id: Some("046d:0825:5B97E0A0".into()),
        capture_devices: vec![0],
    };
    assert_eq!(cards[2], webcam);
}

#[test]
fn every_kind_of_id_finds_its_card() {
    let root = machine();
    let cards = cards_in(root.path());
    for id in ["Cam", "hd webcam c270", "046d:0825", "046D:0825:5B97E0A0", "usb-0000:01:00.0-1.1", "1-1.1"] {
        assert_eq!(index_of(id, &cards), Some(3), "{id}");
    }
    for id in ["cam2", "046d:0826", "1-1", "3", "hw:CARD=Cam,DEV=0", "pulse", ""] {
        assert_eq!(index_of(id, &cards), None, "{id}");
    }
}

#[test]
fn id_of_two_cards_is_the_one_at_the_first_port_whatever_its_number() {
    let root = machine();
    let cards = cards_in(root.path());
    assert_eq!(index_of("0d8c:013c", &cards), Some(2));
}

#[test]
fn stable_id_is_the_usb_id_unless_two_cards_share_it() {
    let root = machine();
    let cards = cards_in(root.path());
    assert_eq!(stable_id(&cards[0], &cards), "usb-0000:01:00.0-1.4");
    assert_eq!(stable_id(&cards[2], &cards), "046d:0825:5B97E0A0");
    let on_board = Card { id: "seeed2micvoicec".into(), ..Card::default() };
    assert_eq!(stable_id(&on_board, &cards), "seeed2micvoicec");
    for card in &cards {
        assert_eq!(index_of(stable_id(card, &cards), &cards), Some(card.index));
    }
}

#[test]
fn machine_without_sound_has_no_cards() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(cards_in(root.path()), vec![]);
    fs::create_dir_all(root.path().join("proc/asound")).unwrap();
    fs::write(root.path().join("proc/asound/cards"), "--- no soundcards ---\n").unwrap();
    assert_eq!(cards_in(root.path()), vec![]);
}

#[test]
fn card_is_found_in_alsa_names() {
    assert_eq!(pcm_card("hw:CARD=Mic,DEV=0"), Some("Mic"));
    assert_eq!(pcm_card("plughw:Mic,0"), Some("Mic"));
    assert_eq!(pcm_card("0d8c:013c"), None);
    assert_eq!(pcm_card("usb-0000:01:00.0-1.3"), None);
    assert_eq!(pcm_card("pulse"), None);
}
